"""What the driver does for a trial that is itself a distributed fit: fit, score on a part of the rows, and tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from retune.data.folds import FOLD
from retune.data.splits import ROW_ID, SPLIT
from retune.evaluation import score_splits
from retune.experiment import Experiment
from retune.metrics import METRICS
from retune.placements.autolog import Autolog
from retune.placements.objective import (
    ROUNDS,
    SIZE,
    constrained_measures,
    measure_folds,
    pruning_bars,
    read_returned,
    scored_by,
    train_sample,
)
from retune.placements.spark_model import ClusterModels
from retune.search.trial import Attempt
from retune.search_section import CrossValidation
from retune.space import Parameters, Setting, flatten
from retune.trainers.base_cluster import ClusterTrainer, EarlyStopping

_MOST_WATCHED_ROWS = 10_000  # SynapseML gathers them on the driver


@dataclass(frozen=True)
class Rows:
    """The rows of a search, laid out and held; what a function of the user's own is given.

    Attributes:
        all: Train and validation rows: `retune_features` (vector), `retune_label` (double), `retune_row_id`,
            `retune_split`, and with cross-validation `retune_fold`.
        train: Those a trial is fitted to; with cross-validation all, of which each fit leaves out a fold.
        scored: Those a fit is scored on, among them a sample of what it was fitted to; with cross-validation all.
        count: How many there are in all.
        fitted: To how many of them a fit is fitted.
        classes: How many classes; 0 for regression.
    """

    all: DataFrame
    train: DataFrame
    scored: DataFrame
    count: int
    fitted: int
    classes: int


class FitAndScore:
    """Fits with the experiment's trainer and scores on rows that the fit has not seen."""

    def __init__(
        self,
        experiment: Experiment,
        trainer: ClusterTrainer,
        rows: Rows,
        planned: Parameters | None = None,
        models: ClusterModels | None = None,
        autolog: Autolog | None = None,
    ) -> None:
        self._experiment, self._trainer, self._rows, self._planned = experiment, trainer, rows, planned or {}
        self._models, self._autolog = models, autolog
        self._measures_size = SIZE in constrained_measures(experiment.search)

    def __call__(self, setting: Setting, attempt: Attempt) -> dict[str, float]:
        search = self._experiment.search
        parameters = {
            **self._planned,
            **self._experiment.model.fixed,
            **flatten(setting),
            **self._trainer.safer(attempt.rung),
        }
        metric = METRICS[search.metric]
        bars = pruning_bars(search, metric, attempt.earlier)
        return measure_folds(lambda fold: self._measure(parameters, fold, attempt), metric, bars)

    def _measure(self, parameters: Parameters, fold: int, attempt: Attempt) -> dict[str, float]:
        experiment, classes = self._experiment, self._rows.classes
        fit_rows, scored_rows = self._rows.train, self._rows.scored
        folds = experiment.search.validation
        if isinstance(folds, CrossValidation):
            fit_rows = fit_rows.where(F.col(FOLD) != fold)
            held_out = F.col(FOLD) == fold
            share = train_sample(self._rows.count - self._rows.fitted) / self._rows.fitted
            scored_rows = scored_rows.where(held_out | sampled(share))
            scored_rows = scored_rows.withColumn(SPLIT, F.when(held_out, "validation").otherwise("train"))
        started = time.monotonic()
        watched = self._early_stopping(scored_rows)
        with self._autolog.around_fit(attempt.run_id.result()) if self._autolog else nullcontext():
            model = self._trainer.fit(
                fit_rows, parameters, experiment.problem, classes, experiment.search.seed, watched
            )
        fitted = time.monotonic()
        counts: dict[str, int] = {}
        metrics = score_splits(
            model.transform(scored_rows), experiment.problem, classes, scored_by(experiment.search), counts
        )
        metrics["fit_s"] = fitted - started
        if watched:
            metrics[ROUNDS] = self._trainer.rounds(model)
        metrics["score_ms_per_row"] = (time.monotonic() - fitted) * 1000 / sum(counts.values())
        if self._measures_size:
            metrics[SIZE] = self._trainer.model_size(model) / 2**20
        if self._models and experiment.search.log_models == "all":
            self._models.log(model, attempt.run_id.result())
        return metrics

    def _early_stopping(self, scored_rows: DataFrame) -> EarlyStopping | None:
        rounds = self._experiment.search.early_stopping_rounds
        if rounds is None:
            return None
        held_out = max(1, self._rows.count - self._rows.fitted)
        watched = (F.col(SPLIT) == "validation") & sampled(_MOST_WATCHED_ROWS / held_out)
        return EarlyStopping(scored_rows.where(watched), rounds)


class OwnFunction:
    """Calls a function of the user's, as Hyperopt's `fmin` would, but with the rows as well: a `Rows`."""

    def __init__(self, function: Callable[[Parameters, Rows], Any], experiment: Experiment, rows: Rows) -> None:
        self._function, self._experiment, self._rows = function, experiment, rows

    def __call__(self, setting: Setting, attempt: Attempt) -> dict[str, float]:
        parameters = {**self._experiment.model.fixed, **flatten(setting)}
        return read_returned(self._function(parameters, self._rows), METRICS[self._experiment.search.metric])


def sampled(share: float) -> Column:
    """Return a condition that about such a share of the rows meet, always the same ones."""
    parts = 1_000_000
    return F.pmod(F.col(ROW_ID), F.lit(parts)) < round(min(1.0, share) * parts)
