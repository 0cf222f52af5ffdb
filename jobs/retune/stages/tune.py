"""Tune: search for the best setting on rows that no trial is fitted to and no test row is among."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from pyspark import InheritableThread
from pyspark.sql import SparkSession

from retune.handoff import FINGERPRINT, Stage
from retune.last_resort import LastResort
from retune.metrics import METRICS
from retune.placements import load_placement
from retune.placements.base import Trials
from retune.placements.objective import ROUNDS
from retune.placements.shared_fits import follow_fits
from retune.plots import plot_search, plot_sweep
from retune.search.engine import build_engine
from retune.search.loop import run_search
from retune.search.plan import Plan, Result
from retune.search.planning import build_plan
from retune.search.trial import Attempt, Objective, Trial, best_of
from retune.search.watchdog import Watchdog
from retune.search_section import CrossValidation, Search
from retune.space import Setting
from retune.spark import losing_spark_told_apart, spark_session
from retune.stages.warm_start import EarlierTrials, champion_setting, learn_from_earlier
from retune.sweep import score_settings, scorer_name, write_csv, write_text
from retune.trainers import load_trainer
from retune.trial_runs import BASIS, SPACE, TrialRuns

log = logging.getLogger(__name__)
_MARGIN_S = 5.0  # for the watchdog, where it can do it, to end the process


def run(stage: Stage) -> None:
    """Publish `best_setting` (JSON), `best_trial` (its run id), `best_rounds` (where its fit stopped early, else 0).

    And `untuned_rounds`, likewise, of the trial of the untuned setting.
    """
    trainer = load_trainer(stage.experiment.model.trainer)
    experiment = follow_fits(stage.experiment, trainer)
    stage = replace(stage, experiment=experiment)
    # Its library takes seconds to import; meanwhile Spark lays out the rows.
    engine = ThreadPoolExecutor(1, "engine").submit(build_engine, experiment.search)
    tracker = TrialRuns(stage)
    basis = hash_of_basis(stage)
    history = _usable_history(stage, tracker, basis)
    earlier = learn_from_earlier(stage, basis)
    with spark_session(f"{experiment.name} tune") as spark:
        trainer.require(spark)
        with load_placement(trainer.placement).trials(spark, stage) as trials:
            started = time.monotonic()
            if trials.search:
                tracker.set_aside(history)  # such a runner begins anew
                result = trials.search()
            else:
                objective = _watched(trials, spark, experiment.search.trial_timeout)
                plan = _build_plan(stage, earlier, trials.parallel, tracker.suspects())
                result = run_search(engine.result(), objective, tracker, plan, history, earlier.trials)
            sizes = {**trials.sizes, "parallel_trials": trials.parallel, "search_s": time.monotonic() - started}
    stage.ensure_current()
    tracker.kill_unfinished()
    tracker.mark_best(result.best)
    _log_result(stage, result, sizes)
    untuned = next((trial for trial in result.trials if trial.setting == experiment.untuned_setting), None)
    stage.publish(
        best_setting=json.dumps(result.best.setting),
        best_trial=result.best.run_id,
        best_rounds=_rounds_of(result.best, experiment.search),
        untuned_rounds=_rounds_of(untuned, experiment.search),
    )


def _rounds_of(trial: Trial | None, search: Search) -> str:
    """Return where the fit of a trial stopped early; 0 where it did not, or there is none."""
    # A function of the user's may call something else its rounds.
    stops_early = search.early_stopping_rounds and search.objective is None
    return str(round(trial.metrics.get(ROUNDS, 0)) if trial and stops_early else 0)


def hash_of_basis(stage: Stage) -> str:
    """Return a hash of all that a trial's measures hang on beside its setting: data, trainer, how it is scored."""
    experiment, search = stage.experiment, stage.experiment.search
    return _hash(
        stage.upstream["ingest"].data.tags[FINGERPRINT],
        experiment.problem,
        experiment.split.model_dump(),
        experiment.features.model_dump(),
        experiment.model.trainer,
        experiment.model.fixed,
        search.validation.model_dump(),
        search.early_stopping_rounds,
        search.objective,
    )


def _usable_history(stage: Stage, tracker: TrialRuns, basis: str) -> list[Trial]:
    """Return the trials of earlier attempts, unless they are of another search, or all failed; those are set aside."""
    space = _hash({name: entry.model_dump() for name, entry in stage.experiment.search.space.items()})
    history, tags = tracker.history(), stage.client.get_run(stage.run_id).data.tags
    changed = [what for what, tag, now in (("data or trainer", BASIS, basis), ("space", SPACE, space))
               if tags.get(tag, now) != now]  # fmt: skip
    usable = bool(history) and not changed
    if history and changed:
        log.warning("%s changed since %d earlier trials; they are set aside", " and ".join(changed), len(history))
    elif usable and _was_hopeless(stage.experiment.search, history):
        log.info("the %d trials of earlier attempts left no hope; starting anew", len(history))
        usable = False
    if not usable:
        tracker.set_aside(history)  # before the tags: a kill between them must not let these trials back in
    stage.client.set_tag(stage.run_id, BASIS, basis)
    stage.client.set_tag(stage.run_id, SPACE, space)
    return history if usable else []


def _was_hopeless(search: Search, history: Sequence[Trial]) -> bool:
    """Tell whether a retry could only end as the attempt before it did."""
    failed = sum(trial.error is not None for trial in history)
    too_many = search.max_failed_trials is not None and failed >= search.max_failed_trials
    return too_many or (len(history) >= search.trials and all(trial.loss is None for trial in history))


def _watched(trials: Trials, spark: SparkSession, timeout_s: int | None) -> Objective:
    """Give every trial a Spark job group and pool and a limit to its time; losing Spark is no failure of a trial."""
    context = spark.sparkContext
    numbers, last_resort = itertools.count(), LastResort()
    pools: SimpleQueue[str] = SimpleQueue()  # of equal share, so that no trial waits for another's jobs
    for index in range(trials.parallel):
        pools.put(f"retune {index}")

    def grouped(setting: Setting, attempt: Attempt, group: str) -> dict[str, float]:
        pool = pools.get()
        try:
            with losing_spark_told_apart(spark):
                context.setJobGroup(group, f"trial {json.dumps(setting)[:200]}", interruptOnCancel=True)
                context.setLocalProperty("spark.scheduler.pool", pool)
                return trials.objective(setting, attempt)
        finally:
            pools.put(pool)

    def watched(setting: Setting, attempt: Attempt) -> dict[str, float]:
        group = f"retune trial {next(numbers)}"
        trials.prepare()
        if timeout_s is None:
            return grouped(setting, attempt, group)

        def cancel() -> None:
            with losing_spark_told_apart(spark):
                context.cancelJobGroup(group)

        watchdog = Watchdog(timeout_s, cancel, thread=InheritableThread)
        with last_resort.watch(attempt.run_id.result(), timeout_s + watchdog.grace_s + _MARGIN_S):
            return watchdog.run(lambda: grouped(setting, attempt, group))

    return watched


def _build_plan(stage: Stage, earlier: EarlierTrials, parallel: int, alone: frozenset[int]) -> Plan:
    experiment, search = stage.experiment, stage.experiment.search
    wanted = [*experiment.points_to_evaluate, *earlier.points]
    points = [point for point in wanted if point not in earlier.known]
    if len(points) < len(wanted):
        log.info("settings to try first: %d left out, whose measures the warm start tells", len(wanted) - len(points))
    if best := best_of(earlier.trials):
        points.insert(0, best.setting)  # or this search could end worse than the one before
    if search.points_to_evaluate == "champion" and (champion := champion_setting(stage)):
        points.insert(0, champion)
    points = [point for index, point in enumerate(points) if point not in points[:index]]
    return build_plan(search, points, parallel, InheritableThread, alone)


def _log_result(stage: Stage, result: Result, sizes: dict[str, float]) -> None:
    log.info("best: trial %d %s", result.best.number, result.best.setting)
    failed = sum(trial.error is not None for trial in result.trials)
    counts = {"trials": len(result.trials), "failed_trials": failed}
    measured = {name: value for name, value in result.best.metrics.items() if not name.startswith("fold_")}
    stage.log_metrics({**measured, **sizes, **counts}, step=len(result.trials))
    stage.client.set_tag(stage.run_id, "retune.stop_reason", result.stop_reason)
    figure = plot_search(result.trials, METRICS[stage.experiment.search.metric])
    stage.client.log_figure(stage.run_id, figure, "search.png")
    if isinstance(validation := stage.experiment.search.validation, CrossValidation):
        _log_sweep(stage, result, validation.folds)


def _log_sweep(stage: Stage, result: Result, folds: int) -> None:
    metric = METRICS[stage.experiment.search.metric]
    scorer = scorer_name(metric, stage.experiment.problem)
    scores = score_settings(result.trials, metric, folds)
    stage.client.log_text(stage.run_id, write_text(scores, scorer), "sweeping_results.txt")
    stage.client.log_text(stage.run_id, write_csv(scores, folds), "sweeping_results.csv")
    stage.client.log_figure(stage.run_id, plot_sweep(scores, scorer), "sweeping_results.png")


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
