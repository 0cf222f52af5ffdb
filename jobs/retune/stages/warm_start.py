"""What earlier searches of an experiment can teach a new one."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from retune.errors import one_line
from retune.handoff import OUTPUT, Stage
from retune.metrics import METRICS
from retune.registry import champion_version
from retune.run_tree import STAGE, SUPERSEDED_BY, UPSTREAM
from retune.search.plan import broken_constraint
from retune.search.trial import Trial, best_of
from retune.search_section import Search, parse_constraint
from retune.space import Setting, clip, encode
from retune.tracking import search_all
from retune.trial_runs import BASIS, read_trials

log = logging.getLogger(__name__)
_TAKEN = "taken"


@dataclass
class EarlierTrials:
    """What was found, and what became of it.

    Attributes:
        trials: For the engine, numbered below 0, the newest last.
        known: Settings whose losses are told, so that trying them again would teach nothing.
        points: Settings to try first.
        counts: How many settings were taken, clipped, or left out, and why.
    """

    trials: list[Trial] = field(default_factory=list)
    known: list[Setting] = field(default_factory=list)
    points: list[Setting] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def learn_from_earlier(stage: Stage, basis: str) -> EarlierTrials:
    """Read the trials of earlier searches as `search.warm_start` has it.

    Args:
        stage: The tune stage.
        basis: What the losses of this search hang on; those of an equal basis can be compared.
    """
    wanted = stage.experiment.search.warm_start
    learnt = EarlierTrials()
    if wanted is None:
        return learnt
    runs = _earlier_searches(stage, wanted.max_age)[-wanted.runs :]
    for run in runs:
        trials = read_trials(stage.client, run)
        if run.data.tags.get(BASIS) == basis:
            _take_trials(learnt, trials, stage.experiment.search)
        elif wanted.other_data == "best_first":
            _take_best(learnt, trials, stage.experiment.search)
        else:
            learnt.counts["on other data left out"] = learnt.counts.get("on other data left out", 0) + len(trials)
    learnt.trials = [replace(trial, number=index - len(learnt.trials)) for index, trial in enumerate(learnt.trials)]
    told = ", ".join(f"{count} {what}" for what, count in learnt.counts.items()) or "no trial found"
    log.info("warm start from %d earlier search%s: %s", len(runs), "" if len(runs) == 1 else "es", told)
    return learnt


def champion_setting(stage: Stage) -> Setting | None:
    """Return the setting that the champion was fitted with, or None where there is no champion or it does not tell."""
    version = champion_version(stage.client, stage.experiment.dag_id)
    if version is None:
        log.info("points_to_evaluate: champion: there is none yet")
        return None
    try:
        retrain = stage.client.get_run(stage.client.get_model_version(stage.experiment.dag_id, version).run_id)
        tune = stage.client.get_run(retrain.data.tags[UPSTREAM])
        setting: Setting = json.loads(tune.data.tags[f"{OUTPUT}best_setting"])
        encode(stage.experiment.search.space, setting)
    except (MlflowException, KeyError, ValueError) as error:  # say, one that was registered by hand
        log.warning("points_to_evaluate: champion: version %s is left out: %s", version, one_line(error))
        return None
    return setting


def _earlier_searches(stage: Stage, max_age: int | None) -> list[Run]:
    found = search_all(stage.client, stage.experiment_id, f"tags.`{STAGE}` = 'tune'")
    oldest = 0.0 if max_age is None else (time.time() - max_age) * 1000
    return [
        run
        for run in found
        if run.info.run_id != stage.run_id and SUPERSEDED_BY not in run.data.tags and run.info.start_time >= oldest
    ]


def _take_trials(learnt: EarlierTrials, trials: Iterable[Trial], search: Search) -> None:
    metric, name = METRICS[search.metric], f"validation_{search.metric}"
    constraints = [parse_constraint(text) for text in search.constraints]
    for trial in trials:
        setting, what = _fit_in(trial.setting, search)
        learnt.count(what)
        if setting is None:
            continue
        value = trial.metrics.get(name, math.nan)
        # By the constraints of today, not of then; of a trial that was pruned there is no value.
        usable = trial.error is None and math.isfinite(value) and not broken_constraint(constraints, trial.metrics)
        if usable and what == _TAKEN:
            learnt.known.append(setting)
        learnt.trials.append(replace(trial, setting=setting, loss=metric.loss(value) if usable else None))


def _take_best(learnt: EarlierTrials, trials: list[Trial], search: Search) -> None:
    best = best_of(trials)
    if best:
        setting, what = _fit_in(best.setting, search)
        learnt.count(f"best on other data, {what}")
        if setting is not None and setting not in learnt.points:
            learnt.points.append(setting)


def _fit_in(setting: Setting, search: Search) -> tuple[Setting | None, str]:
    try:
        encode(search.space, setting)
    except ValueError:
        assert search.warm_start is not None
        if search.warm_start.outside == "drop":
            return None, "outside the space dropped"
        try:
            return clip(search.space, setting), "clipped into the space"
        except ValueError:
            return None, "of another form dropped"
    return setting, _TAKEN
