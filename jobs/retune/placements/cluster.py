"""Trials that are themselves distributed Spark fits, launched from the driver."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

from pyspark.ml import Transformer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from retune.data.folds import FOLD, assign_folds
from retune.data.splits import ROW_ID, SPLIT
from retune.evaluation import score_splits
from retune.experiment import Experiment
from retune.functions import load_function
from retune.handoff import PROFILE, Stage
from retune.metrics import METRICS
from retune.placements.autolog import Autolog, autolog_of
from retune.placements.base import Fitting, Trials
from retune.placements.objective import (
    ROUNDS,
    SIZE,
    constrained_measures,
    measure_folds,
    pruning_bars,
    read_returned,
    scored_by,
)
from retune.placements.rows import laid_out, read_split
from retune.placements.spark_model import ClusterModels
from retune.search.trial import Attempt, Objective
from retune.search_section import CrossValidation
from retune.space import Parameters, Setting, flatten
from retune.spark import Slots, task_cpus
from retune.trainers import load_trainer
from retune.trainers.base import ClusterTrainer, EarlyStopping
from retune.trial_runs import LAYOUT

log = logging.getLogger(__name__)
_MOST_WATCHED_ROWS = 10_000  # SynapseML gathers them on the driver


@dataclass(frozen=True)
class Rows:
    """The rows of a search, laid out and held; what a function of the user's own is given.

    Attributes:
        all: Train and validation rows: `retune_features` (vector), `retune_label` (double), `retune_row_id`,
            `retune_split`, and with cross-validation `retune_fold`.
        train: Those a trial is fitted to; with cross-validation all, of which each fit leaves out a fold.
        count: How many there are.
        scored: How many of them a fit is scored on.
        classes: How many classes; 0 for regression.
    """

    all: DataFrame
    train: DataFrame
    count: int
    scored: int
    classes: int


@contextmanager
def trials(spark: SparkSession, stage: Stage) -> Iterator[Trials]:
    """Lay the rows out for the trainer and hold them; see `Placement`."""
    experiment = stage.experiment
    trainer = cast(ClusterTrainer, load_trainer(experiment.model.trainer))
    with _held_rows(spark, stage, trainer) as rows:
        slots = Slots.of(spark)
        parallel = _capped(experiment.search.parallel_trials or 1, max(1, slots.cores // task_cpus(spark)))
        own = experiment.search.objective
        objective: Objective = FitAndScore(
            experiment,
            trainer,
            rows,
            trainer.share(slots, parallel),
            ClusterModels(stage, spark),
            autolog_of(stage),
        )
        if own is not None:
            objective = OwnFunction(load_function("search.objective", own), experiment, rows)
        sizes = {
            "fit_partitions": rows.train.rdd.getNumPartitions(),
            "fit_rows": rows.count - rows.scored,
            "validation_rows": rows.scored,
        }
        yield Trials(objective, parallel, sizes)


@contextmanager
def fitting(spark: SparkSession, stage: Stage) -> Iterator[Fitting]:
    """Lay train and validation rows out for the trainer and hold them; see `Placement`."""
    trainer = cast(ClusterTrainer, load_trainer(stage.experiment.model.trainer))
    rows = read_split(spark, stage, "train").unionByName(read_split(spark, stage, "validation"))
    with laid_out(rows, trainer) as held:
        yield ClusterFitting(stage, trainer, held)


class ClusterFitting(ClusterModels):
    """Fits on the cluster; see `Fitting`."""

    def __init__(self, stage: Stage, trainer: ClusterTrainer, rows: DataFrame) -> None:
        super().__init__(stage, rows.sparkSession)
        self._trainer, self._rows = trainer, rows
        self.rows = rows.count()

    def fit(self, parameters: Parameters) -> Transformer:
        """Fit on all rows; see `Fitting`."""
        experiment, classes = self._stage.experiment, len(self.classes)
        return self._trainer.fit(self._rows, parameters, experiment.problem, classes, experiment.search.seed)


class FitAndScore:
    """Fits with the experiment's trainer and scores on rows that the fit has not seen."""

    def __init__(
        self,
        experiment: Experiment,
        trainer: ClusterTrainer,
        rows: Rows,
        share: Parameters | None = None,
        models: ClusterModels | None = None,
        autolog: Autolog | None = None,
    ) -> None:
        self._experiment, self._trainer, self._rows, self._share = experiment, trainer, rows, share or {}
        self._models, self._autolog = models, autolog
        self._measures_size = SIZE in constrained_measures(experiment.search)

    def __call__(self, setting: Setting, attempt: Attempt) -> dict[str, float]:
        search = self._experiment.search
        parameters = {
            **self._share,
            **self._experiment.model.fixed,
            **flatten(setting),
            **self._trainer.safer(attempt.rung),
        }
        metric = METRICS[search.metric]
        bars = pruning_bars(search, metric, attempt.earlier)
        return measure_folds(lambda fold: self._measure(parameters, fold, attempt), metric, bars)

    def _measure(self, parameters: Parameters, fold: int, attempt: Attempt) -> dict[str, float]:
        experiment, classes = self._experiment, self._rows.classes
        fit_rows, all_rows = self._rows.train, self._rows.all
        if isinstance(experiment.search.validation, CrossValidation):
            all_rows = all_rows.withColumn(SPLIT, F.when(F.col(FOLD) == fold, "validation").otherwise("train"))
            fit_rows = all_rows.where(F.col(FOLD) != fold)
        started = time.monotonic()
        watched = self._early_stopping(all_rows.where(F.col(SPLIT) == "validation"))
        with self._autolog.around_fit(attempt.run_id.result()) if self._autolog else nullcontext():
            model = self._trainer.fit(
                fit_rows, parameters, experiment.problem, classes, experiment.search.seed, watched
            )
        fitted = time.monotonic()
        scored = model.transform(all_rows)
        metrics = score_splits(scored, experiment.problem, classes, scored_by(experiment.search))
        metrics["fit_s"] = fitted - started
        if watched:
            metrics[ROUNDS] = self._trainer.rounds(model)
        metrics["score_ms_per_row"] = (time.monotonic() - fitted) * 1000 / max(1, self._rows.count)
        if self._measures_size:
            metrics[SIZE] = self._trainer.model_size(model) / 2**20
        if self._models and experiment.search.log_models == "all":
            self._models.log(model, attempt.run_id.result())
        return metrics

    def _early_stopping(self, validation_rows: DataFrame) -> EarlyStopping | None:
        rounds = self._experiment.search.early_stopping_rounds
        if rounds is None:
            return None
        share = min(1.0, _MOST_WATCHED_ROWS / max(1, self._rows.scored))
        chosen = F.pmod(F.col(ROW_ID), F.lit(1_000_000)) < int(share * 1_000_000)
        return EarlyStopping(validation_rows.where(chosen), rounds)


class OwnFunction:
    """Calls a function of the user's, as Hyperopt's `fmin` would, but with the rows as well: a `Rows`."""

    def __init__(self, function: Callable[[Parameters, Rows], Any], experiment: Experiment, rows: Rows) -> None:
        self._function, self._experiment, self._rows = function, experiment, rows

    def __call__(self, setting: Setting, attempt: Attempt) -> dict[str, float]:
        parameters = {**self._experiment.model.fixed, **flatten(setting)}
        return read_returned(self._function(parameters, self._rows), METRICS[self._experiment.search.metric])


def _capped(parallel: int, slots: int) -> int:
    """Return how many fits may run at once: each needs a slot on every executor, all at the same time."""
    if parallel > slots:
        log.warning("parallel_trials = %d: capped to %d, the task slots of an executor", parallel, slots)
    return min(parallel, slots)


@contextmanager
def _held_rows(spark: SparkSession, stage: Stage, trainer: ClusterTrainer) -> Iterator[Rows]:
    """Lay the rows out and hold them; on resume as the first attempt did, since models hang on it."""
    validation, classes = stage.experiment.search.validation, stage.artifact("ingest", PROFILE)["classes"]
    group = [validation.group] if isinstance(validation, CrossValidation) and validation.group else []
    splits = {name: read_split(spark, stage, name, group) for name in ("train", "validation")}
    slots = _same_slots(stage, Slots.of(spark))
    if isinstance(validation, CrossValidation):
        both = splits["train"].unionByName(splits["validation"])
        folded = assign_folds(both, validation, len(classes), stage.experiment.split.seed)
        with laid_out(folded, trainer, slots) as held:
            count = held.count()
            yield Rows(held, held, count, count // validation.folds, len(classes))
    else:
        with laid_out(splits["train"], trainer, slots) as train, laid_out(splits["validation"], trainer, slots) as rest:
            rows = train.unionByName(rest)
            yield Rows(rows, train, rows.count(), rest.count(), len(classes))


def _same_slots(stage: Stage, slots: Slots) -> Slots:
    written = stage.client.get_run(stage.run_id).data.tags.get(LAYOUT)
    if written:
        first = Slots(*json.loads(written))
        if first.executors <= slots.executors:
            return first
        log.warning("%d executors now, %d at first: trials may come out otherwise", slots.executors, first.executors)
    stage.client.set_tag(stage.run_id, LAYOUT, json.dumps([slots.executors, slots.cores]))
    return slots
