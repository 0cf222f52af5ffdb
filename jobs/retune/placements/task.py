"""Trials that fit on one machine, each fit within one Spark task."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pyspark.sql import SparkSession

from retune.errors import root_cause
from retune.experiment import Experiment
from retune.handoff import PROFILE, Stage
from retune.metrics import METRICS
from retune.placements.autolog import autolog_of
from retune.placements.base import Fitting, Trials
from retune.placements.live import live_log_of
from retune.placements.objective import fold_count, measure_folds, pruning_bars
from retune.placements.shared_fits import Scores, SharedFits
from retune.placements.task_model import TaskModels, check_features
from retune.placements.task_rows import read_table, run_in_task, run_in_tasks, shared
from retune.placements.task_trial import Outcome, TaskTrial, fit_whole, import_all, try_fold, try_rounds
from retune.search.trial import Attempt, TrialFailed
from retune.search_section import CrossValidation, Search
from retune.space import Parameters, Setting, flatten
from retune.spark import Slots, task_cpus, tasks_at_once
from retune.trainers import load_trainer

log = logging.getLogger(__name__)
_MOST_PARALLEL = 128  # as SparkTrials has it
FIT_OF_TRIAL = "fit_of_trial"


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
        classes = stage.artifact("ingest", PROFILE)["classes"]
        live = live_log_of(stage.experiment)
        trial = TaskTrial(stage.experiment, files, classes, cpus, autolog_of(stage), live)
        search = stage.experiment.search
        fits = SharedFits(stage.experiment, load_trainer(stage.experiment.model.trainer))
        slots, folds = tasks_at_once(spark), folds_at_once(search)
        wanted = None if search.parallel_trials == "auto" else search.parallel_trials
        parallel = choose_parallel(wanted, slots, fits.trials_for(trials_to_fill(slots, folds)))
        log.info(
            "%d trials side by side, %d fold%s of each at once, %d thread%s a fit",
            parallel, folds, "" if folds == 1 else "s", cpus, "" if cpus == 1 else "s",
        )  # fmt: skip
        own = None
        if search.runner == "spark_trials":
            from retune.placements.spark_trials import run_spark_trials  # brings all of Hyperopt

            own = partial(run_spark_trials, spark, stage, trial, parallel)
        models = TaskModels(stage, spark) if search.log_models == "all" else None
        objective = TaskObjective(spark, trial, fits, slots, models)
        objective.warm_up(min(slots, parallel * folds))
        yield Trials(objective, parallel, sizes, objective.warm_up, own)


@contextmanager
def fitting(spark: SparkSession, stage: Stage) -> Iterator[Fitting]:
    """Share train and validation rows; a fit has all the cores of an executor, for it is alone; see `Placement`."""
    table, classes = read_table(spark, stage), stage.artifact("ingest", PROFILE)["classes"]
    with shared(spark, table, _name(stage)) as files:
        trial = TaskTrial(stage.experiment, files, classes, Slots.of(spark).cores)
        yield TaskFitting(stage, spark, trial, len(table.labels))


def folds_at_once(search: Search) -> int:
    """Return how many folds of a trial are fitted side by side: all, but where a fold's score decides on the next."""
    prunes = isinstance(search.validation, CrossValidation) and search.validation.prune
    return 1 if prunes else fold_count(search)


def trials_to_fill(slots: int, folds: int) -> int:
    """Return how many trials keep all slots at work, with one more where one's last folds would leave some idle."""
    return math.ceil(slots / folds) + (folds > 1)


def choose_parallel(wanted: int | None, slots: int, fill: int) -> int:
    """Return how many trials run side by side: as many as fill the slots, unless the experiment says.

    More would get nothing done sooner, and be cut off by a kill. What an experiment wants is capped to the slots.
    """
    most = min(slots, _MOST_PARALLEL)
    if wanted and wanted > most:
        asked = "%d trials side by side are asked for: capped to %d (%d task slots, and %d at most)"
        log.warning(asked, wanted, most, slots, _MOST_PARALLEL)
    return min(wanted, most) if wanted else min(fill, _MOST_PARALLEL)


class TaskObjective:
    """Tries a setting in Spark tasks, one a fold.

    Args:
        spark: The session.
        trial: What all trials have in common.
        fits: Those that settings share.
        slots: How many tasks run at once.
        models: Keeps the model of each trial.
    """

    def __init__(
        self, spark: SparkSession, trial: TaskTrial, fits: SharedFits, slots: int, models: TaskModels | None = None
    ) -> None:
        self._spark, self._trial, self._fits, self._slots, self._models = spark, trial, fits, slots, models
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
        parameters, metric = {**experiment.model.fixed, **flatten(setting)}, METRICS[experiment.search.metric]
        bars = pruning_bars(experiment.search, metric, attempt.earlier)
        made_in: set[int] = set()
        measure = partial(self._measure, parameters, attempt, made_in)
        if all(bar is None for bar in bars):
            side_by_side = measure(range(len(bars)))
            metrics = measure_folds(side_by_side.__getitem__, metric, bars)
        else:
            metrics = measure_folds(lambda fold: measure([fold])[0], metric, bars)
        others = made_in - {attempt.number}
        return {**metrics, **({FIT_OF_TRIAL: min(others)} if others else {})}

    def _measure(
        self, parameters: Parameters, attempt: Attempt, made_in: set[int], folds: Sequence[int]
    ) -> list[dict[str, float]]:
        """Return what each fold measured; `made_in` is told in which trials fits that settings share were made."""

        def fit(missing: Sequence[int], rounds: list[int]) -> list[Scores | None]:
            return self._run(try_rounds, [(self._trial, parameters, fold, rounds) for fold in missing])

        told = self._fits.measure(parameters, folds, attempt.number, fit)
        if told is None:
            return self._try_folds(parameters, folds, attempt)
        made_in.update(number for number, _ in told)
        return [metrics for _, metrics in told]

    def _try_folds(self, parameters: Parameters, folds: Sequence[int], attempt: Attempt) -> list[dict[str, float]]:
        run_id = attempt.run_id.result() if self._trial.autolog or self._trial.live else None
        outcomes: list[Outcome] = self._run(try_fold, [(self._trial, parameters, fold, run_id) for fold in folds])
        for outcome in outcomes:
            if outcome.error:
                raise TrialFailed(outcome.error)
            if self._models and outcome.model is not None:
                self._models.log(outcome.model, attempt.run_id.result())
        return [outcome.metrics for outcome in outcomes]

    def _run(self, function: Any, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        try:
            return run_in_tasks(self._spark, function, calls)
        except Exception as error:
            self._lost = min(self._lost + len(calls), self._slots)
            if "EOFException" in root_cause(error):
                raise ConnectionError("the Python worker ended: it exited, or was killed, maybe for memory") from error
            raise


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
