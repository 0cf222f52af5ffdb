"""Trials that are themselves distributed Spark fits, launched from the driver."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

from pyspark.ml import Transformer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from retune.data.folds import assign_folds
from retune.data.splits import SPLIT
from retune.functions import load_function
from retune.handoff import PROFILE, Stage
from retune.placements.autolog import autolog_of
from retune.placements.base import Fitting, Trials
from retune.placements.cluster_trial import FitAndScore, OwnFunction, Rows, sampled
from retune.placements.feature_list import read_features
from retune.placements.objective import train_sample
from retune.placements.rows import held_rows, laid_out, read_split, spread
from retune.placements.spark_model import ClusterModels
from retune.search.trial import Objective
from retune.search_section import CrossValidation
from retune.space import Parameters
from retune.spark import Slots, executor_memory, task_cpus
from retune.trainers import load_trainer
from retune.trainers.base_cluster import ClusterTrainer, FitPlan
from retune.trial_runs import LAYOUT

log = logging.getLogger(__name__)
_TRIALS_PER_PARALLEL = 5


@contextmanager
def trials(spark: SparkSession, stage: Stage) -> Iterator[Trials]:
    """Lay the rows out for the trainer and hold them; see `Placement`."""
    experiment = stage.experiment
    trainer = cast(ClusterTrainer, load_trainer(experiment.model.trainer))
    with _held_rows(spark, stage, trainer) as rows:
        parallel, parameters = _plan_trials(spark, stage, trainer, rows.fitted)
        own = experiment.search.objective
        objective: Objective = FitAndScore(
            experiment, trainer, rows, parameters, ClusterModels(stage, spark), autolog_of(stage)
        )
        if own is not None:
            objective = OwnFunction(load_function("search.objective", own), experiment, rows)
        sizes = {
            "fit_partitions": rows.train.rdd.getNumPartitions(),
            "fit_rows": rows.fitted,
            "validation_rows": rows.count - rows.fitted,
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
        self._planned = plan_fits(rows.sparkSession, stage, trainer, self.rows, 1).parameters

    def fit(self, parameters: Parameters) -> Transformer:
        """Fit on all rows; see `Fitting`."""
        experiment, classes = self._stage.experiment, len(self.classes)
        parameters = {**self._planned, **parameters}
        return self._trainer.fit(self._rows, parameters, experiment.problem, classes, experiment.search.seed)


def plan_fits(spark: SparkSession, stage: Stage, trainer: ClusterTrainer, rows: int, parallel: int) -> FitPlan:
    """Return how fits to so many rows, so many at once, use the machine."""
    features = len(read_features(stage))
    return trainer.plan(rows * features, Slots.of(spark), executor_memory(spark), parallel)


def _plan_trials(spark: SparkSession, stage: Stage, trainer: ClusterTrainer, rows: int) -> tuple[int, Parameters]:
    """Return how many trials run at once, and what each fit is told of how to use the machine."""
    slots, wanted = Slots.of(spark), stage.experiment.search.parallel_trials
    plan = partial(plan_fits, spark, stage, trainer, rows)
    # Each trial learns from those before, so that a search of few trials should not try many at once.
    best = max(1, min(plan(1).parallel, stage.experiment.search.trials // _TRIALS_PER_PARALLEL))
    asked, most = best if wanted == "auto" else wanted or 1, max(1, slots.cores // task_cpus(spark))
    # Each fit needs a slot on every executor, all at the same time.
    parallel = min(asked, most)
    if wanted == asked > most:
        log.warning("%d trials side by side are asked for: capped to %d, the task slots of an executor", asked, most)
    if wanted is None and best > 1:
        log.info("one trial at a time, so that the search repeats itself; parallel_trials: %d would be quicker", best)
    chosen = plan(parallel)
    if parallel > 1:
        log.info("%d trials side by side%s", parallel, ", as many as use the machine best" if wanted == "auto" else "")
    if chosen.reason:
        log.info("each fit takes %s; model.fixed can say otherwise", chosen.reason)
    return parallel, chosen.parameters


@contextmanager
def _held_rows(spark: SparkSession, stage: Stage, trainer: ClusterTrainer) -> Iterator[Rows]:
    """Lay the rows out and hold them; on resume as the first attempt did, since models hang on it."""
    validation, classes = stage.experiment.search.validation, stage.artifact("ingest", PROFILE)["classes"]
    group = [validation.group] if isinstance(validation, CrossValidation) and validation.group else []
    train, held_out = (read_split(spark, stage, name, group) for name in ("train", "validation"))
    slots = _same_slots(stage, Slots.of(spark))
    if isinstance(validation, CrossValidation):
        folded = assign_folds(train.unionByName(held_out), validation, len(classes), stage.experiment.split.seed)
        with laid_out(folded, trainer, slots) as held:
            count = held.count()
            yield Rows(held, held, held, count, count - count // validation.folds, len(classes))
        return
    with laid_out(train, trainer, slots) as fit_rows:
        fitted, others = fit_rows.count(), held_out.count()
        sampled_rows = min(fitted, train_sample(others))
        sample = fit_rows.where(sampled(sampled_rows / fitted))
        scored = spread(held_out.unionByName(sample), others + sampled_rows, slots)
        with held_rows(scored) as scored:
            rows = fit_rows.unionByName(scored.where(F.col(SPLIT) == "validation"))
            yield Rows(rows, fit_rows, scored, fitted + others, fitted, len(classes))


def _same_slots(stage: Stage, slots: Slots) -> Slots:
    written = stage.client.get_run(stage.run_id).data.tags.get(LAYOUT)
    if written:
        first = Slots(*json.loads(written))
        if first.executors <= slots.executors:
            return first
        log.warning("%d executors now, %d at first: trials may come out otherwise", slots.executors, first.executors)
    stage.client.set_tag(stage.run_id, LAYOUT, json.dumps([slots.executors, slots.cores]))
    return slots
