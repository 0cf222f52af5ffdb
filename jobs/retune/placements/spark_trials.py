"""`runner: spark_trials`: the search as `hyperopt.SparkTrials` runs it, for comparison, or for its exact semantics.

It is slower than retune's own task placement, since it starts no more than one trial a second and a Python worker for
each (see `retune.placements.task_rows.run_in_tasks`), and it owns the loop: an interrupted search begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import mlflow
import numpy as np
from hyperopt import STATUS_FAIL, STATUS_OK, SparkTrials, fmin
from hyperopt.exceptions import AllTrialsFailed as NoBestTrial
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from pyspark.sql import SparkSession

from retune import settings
from retune.dimensions import Choice, PChoice
from retune.distributions import Distribution
from retune.errors import AllTrialsFailed
from retune.handoff import Stage
from retune.metrics import METRICS
from retune.placements.task_trial import TaskTrial, try_fold
from retune.search.hyperopt_engine import ALGORITHMS, to_hyperopt
from retune.search.plan import Result
from retune.search.stopping import collect_reasons
from retune.search.trial import Trial, best_of
from retune.search_section import Search
from retune.space import Point, decode, flatten
from retune.trial_runs import NUMBER, TrialRuns


def run_spark_trials(spark: SparkSession, stage: Stage, trial: TaskTrial, parallel: int) -> Result:
    """Search by `fmin` with `SparkTrials`; every trial logs into a child run of the tune run, from its worker.

    Raises:
        AllTrialsFailed: There is no best trial.
    """
    search, uri = stage.experiment.search, settings.tracking_uri()
    metric = METRICS[search.metric]
    # Clients do not travel.
    evaluate = partial(_evaluate, uri, replace(stage, client=None), trial)
    found = SparkTrials(parallelism=parallel, spark_session=spark)
    with suppress(NoBestTrial):  # the trials themselves tell why
        fmin(
            evaluate,
            to_hyperopt(search.space, tagged=True),
            algo=partial(ALGORITHMS[search.algorithm_name], **search.algorithm_settings),
            max_evals=search.trials,
            timeout=search.timeout,
            loss_threshold=None if search.loss_threshold is None else metric.loss(search.loss_threshold),
            trials=found,
            rstate=np.random.default_rng(search.seed),
            show_progressbar=False,
            return_argmin=False,
            verbose=False,
        )
    trials = [replace(document["result"]["trial"], number=document["tid"]) for document in found.trials
              if "trial" in document["result"]]  # fmt: skip
    for each in trials:
        stage.client.set_tag(each.run_id, NUMBER, str(each.number))
        stage.client.set_tag(each.run_id, MLFLOW_RUN_NAME, f"trial {each.number}")
    best = best_of(trials)
    if best is None:
        # Of a task that did not come to a trial's end, say since it does not reach MLflow, Hyperopt alone knows why.
        lost = [_last_line(*each["misc"]["error"]) for each in found._dynamic_trials if "error" in each["misc"]]
        reasons = collect_reasons([*lost, *(trial.error or "" for trial in trials)])
        cancelled = f"{found.fmin_cancelled_reason}; " if found.fmin_cancelled_reason else ""
        raise AllTrialsFailed(f"none of {len(lost) + len(trials)} trials can be the best: {cancelled}{reasons}")
    return Result(best, trials, found.fmin_cancelled_reason or _why_ended(search, len(found._dynamic_trials)))


def _evaluate(uri: str, stage: Stage, trial: TaskTrial, config: Mapping[str, Any]) -> dict[str, Any]:
    """Try one setting in a worker of SparkTrials, within the run of the trial."""
    mlflow.set_tracking_uri(uri)
    search = trial.experiment.search
    setting = decode(search.space, _point_of(search.space, config))
    tracker = TrialRuns(replace(stage, client=MlflowClient(uri)), shared=True)
    started, number = time.time(), time.time_ns() // 1000  # SparkTrials tells a task no number; the driver will
    run_id = tracker.start(number, setting)
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        outcome = try_fold(trial, {**trial.experiment.model.fixed, **flatten(setting)}, fold=0, run_id=run_id)
    metric = METRICS[search.metric]
    value = outcome.metrics.get(f"validation_{metric.name}", float("nan"))
    error = outcome.error or (None if np.isfinite(value) else f"validation_{metric.name} is {value}")
    ended = Trial(
        number,
        setting,
        run_id,
        None if error else metric.loss(value),
        dict(outcome.metrics),
        duration_s=time.time() - started,
        error=error,
        started_at=started,
    )
    tracker.end(ended)
    return {"status": STATUS_FAIL if error else STATUS_OK, "loss": ended.loss, "trial": ended}


def _why_ended(search: Search, trials: int) -> str:
    if search.loss_threshold is not None and trials < search.trials:  # Hyperopt keeps silent about it
        return f"loss_threshold = {search.loss_threshold:g} reached"
    return f"max_trials = {search.trials} reached"


def _last_line(kind: str, text: str | None) -> str:
    """Return what Hyperopt wrote down of an error: the end of its traceback, Python's or Java's, or its type alone."""
    lines = [line for line in (text or "").splitlines() if line.strip() and not line[0].isspace()]
    return lines[-1].removeprefix(": ") if lines else kind


def _point_of(space: Mapping[str, Any], config: Mapping[str, Any], prefix: str = "") -> Point:
    """Return what was drawn, from what `to_hyperopt` with tagged options evaluated to."""
    point: Point = {}
    for name, entry in space.items():
        point |= _point_of_entry(entry, config[name], prefix + name)
    return point


def _point_of_entry(entry: Any, value: Any, label: str) -> Point:
    if isinstance(entry, (Choice, PChoice)):
        index = int(value["index"])
        return {label: index, **_point_of_entry(entry.options[index], value["option"], f"{label}[{index}]")}
    if isinstance(entry, Distribution):
        return {label: value}
    return _point_of(entry, value, f"{label}.") if isinstance(entry, Mapping) else {}
