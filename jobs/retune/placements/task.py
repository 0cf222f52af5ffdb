"""Trials that fit on one machine, each within one Spark task."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from pyspark.sql import SparkSession

from retune.experiment import Experiment
from retune.handoff import PROFILE, Stage
from retune.metrics import METRICS
from retune.placements.autolog import autolog_of
from retune.placements.base import Fitting, Trials
from retune.placements.objective import pruning_bars
from retune.placements.task_model import TaskModels, check_features
from retune.placements.task_rows import read_table, run_in_task, shared
from retune.placements.task_trial import TaskTrial, fit_whole, import_all, try_setting
from retune.search.trial import Attempt, Pruned, TrialFailed
from retune.space import Parameters, Setting, flatten
from retune.spark import Slots, task_cpus

log = logging.getLogger(__name__)
_MOST_PARALLEL = 128  # as SparkTrials has it


@contextmanager
def trials(spark: SparkSession, stage: Stage) -> Iterator[Trials]:
    """Share the rows with every executor; see `Placement`."""
    check_features(spark, stage)
    table = read_table(spark, stage)
    scored = int((table.parts >= 0).sum()) if (table.parts < 0).any() else len(table.parts) // (table.parts.max() + 1)
    sizes = {"fit_rows": float(len(table.parts) - scored), "validation_rows": float(scored)}
    with shared(spark, table, _name(stage)) as files:
        del table  # the tasks have files of their own
        cpus = task_cpus(spark)
        trial = TaskTrial(
            stage.experiment, files, stage.artifact("ingest", PROFILE)["classes"], cpus, autolog_of(stage)
        )
        wanted = stage.experiment.search.parallel_trials
        slots = spark.sparkContext.defaultParallelism // cpus
        parallel = choose_parallel(None if wanted == "auto" else wanted, slots)
        log.info("%d trials side by side, %d thread%s each", parallel, cpus, "" if cpus == 1 else "s")
        own = None
        if stage.experiment.search.runner == "spark_trials":
            from retune.placements.spark_trials import run_spark_trials  # brings all of Hyperopt

            own = partial(run_spark_trials, spark, stage, trial, parallel)
        models = TaskModels(stage, spark) if stage.experiment.search.log_models == "all" else None
        objective = TaskObjective(spark, trial, models)
        objective.warm_up(parallel)
        yield Trials(objective, parallel, sizes, objective.warm_up, own)


@contextmanager
def fitting(spark: SparkSession, stage: Stage) -> Iterator[Fitting]:
    """Share train and validation rows; a fit has all the cores of an executor, for it is alone; see `Placement`."""
    table, classes = read_table(spark, stage), stage.artifact("ingest", PROFILE)["classes"]
    with shared(spark, table, _name(stage)) as files:
        trial = TaskTrial(stage.experiment, files, classes, Slots.of(spark).cores)
        yield TaskFitting(stage, spark, trial, len(table.labels))


def choose_parallel(wanted: int | None, slots: int) -> int:
    """Return how many trials run side by side: all slots, or fewer where the experiment wants fewer."""
    most = min(slots, _MOST_PARALLEL)
    if wanted and wanted > most:
        log.warning(
            "parallel_trials = %d: capped to %d (%d task slots, and %d at most)", wanted, most, slots, _MOST_PARALLEL
        )
    return max(1, min(wanted or most, most))


class TaskObjective:
    """Tries a setting in one Spark task."""

    def __init__(self, spark: SparkSession, trial: TaskTrial, models: TaskModels | None = None) -> None:
        self._spark, self._trial, self._models = spark, trial, models
        self._lost = 0  # Python workers that went with their task

    def warm_up(self, workers: int | None = None) -> None:
        """Start as many Python workers, by default those that were lost, and import there what trials need.

        That takes seconds, more than a short `trial_timeout` may allow.
        """
        workers, self._lost = self._lost if workers is None else workers, 0
        if workers:
            context = self._spark.sparkContext
            context.parallelize([self._trial] * workers, workers).foreach(import_all)

    def __call__(self, setting: Setting, attempt: Attempt) -> dict[str, float]:
        experiment: Experiment = self._trial.experiment
        parameters = {**experiment.model.fixed, **flatten(setting)}
        bars = pruning_bars(experiment.search, METRICS[experiment.search.metric], attempt.earlier)
        try:
            run_id = attempt.run_id.result() if self._trial.autolog else None
            outcome = run_in_task(self._spark, try_setting, self._trial, parameters, bars, run_id)
        except Exception:
            self._lost += 1
            raise
        if outcome.pruned:
            raise Pruned(outcome.pruned, outcome.metrics)
        if outcome.error:
            raise TrialFailed(outcome.error)
        if self._models and outcome.model is not None:
            self._models.log(outcome.model, attempt.run_id.result())
        return dict(outcome.metrics)


class TaskFitting(TaskModels):
    """Fits one model after another, each in a task; see `Fitting`."""

    def __init__(self, stage: Stage, spark: SparkSession, trial: TaskTrial, rows: int) -> None:
        super().__init__(stage, spark)
        self._trial, self.rows = trial, rows

    def fit(self, parameters: Parameters) -> Any:
        """Fit on all rows; see `Fitting`."""
        return run_in_task(self._spark, fit_whole, self._trial, parameters)


def _name(stage: Stage) -> str:
    return f"{stage.run_id}-{stage.attempt}"
