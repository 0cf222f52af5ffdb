"""What a trial is: one setting fitted and scored, by holdout, by cross-validation, or by a function of the user's."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from retune.data.folds import FOLD
from retune.data.splits import ROW_ID, SPLIT
from retune.evaluation import score_splits
from retune.experiment import Experiment
from retune.metrics import METRICS
from retune.search.trial import Attempt, Pruned, Trial
from retune.search_section import CrossValidation, parse_constraint
from retune.space import Parameters, Setting, flatten
from retune.trainers.base import EarlyStopping, Trainer

ROUNDS = "rounds"
_MOST_WATCHED_ROWS = 10_000  # SynapseML gathers them on the driver
_FOLDS_BEFORE_PRUNING = 2
_TRIALS_BEFORE_PRUNING = 5  # as Optuna's MedianPruner has it


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


class FitAndScore:
    """Fits with the experiment's trainer and scores on rows that the fit has not seen."""

    def __init__(self, experiment: Experiment, trainer: Trainer, rows: Rows) -> None:
        self._experiment, self._trainer, self._rows = experiment, trainer, rows
        constrained = [parse_constraint(text)[0] for text in experiment.search.constraints]
        self._measures_size = "model_size_mb" in constrained
        # The area under the curve needs sorting, so it is measured only where asked for.
        auc = any(measure.endswith("_auc") for measure in constrained)
        self._scored_by = "auc" if auc else experiment.search.metric

    def __call__(self, setting: Setting, attempt: Attempt) -> dict[str, float]:
        parameters = {
            **self._experiment.model.fixed,
            **flatten(setting),
            **self._trainer.safer(attempt.rung),
        }
        validation = self._experiment.search.validation
        if isinstance(validation, CrossValidation):
            return self._cross_validate(parameters, validation, attempt.earlier)
        return self._measure(parameters, self._rows.train, self._rows.all)

    def _cross_validate(
        self, parameters: Parameters, validation: CrossValidation, earlier: Sequence[Trial]
    ) -> dict[str, float]:
        folds: list[dict[str, float]] = []
        for fold in range(validation.folds):
            split = F.when(F.col(FOLD) == fold, "validation").otherwise("train")
            rows = self._rows.all.withColumn(SPLIT, split)
            folds.append(self._measure(parameters, rows.where(F.col(FOLD) != fold), rows))
            if validation.prune and fold + 1 < validation.folds:
                self._prune(folds, earlier)
        return summarize_folds(folds)

    def _early_stopping(self, validation_rows: DataFrame) -> EarlyStopping | None:
        rounds = self._experiment.search.early_stopping_rounds
        if rounds is None:
            return None
        share = min(1.0, _MOST_WATCHED_ROWS / max(1, self._rows.scored))
        chosen = F.pmod(F.col(ROW_ID), F.lit(1_000_000)) < int(share * 1_000_000)
        return EarlyStopping(validation_rows.where(chosen), rounds)

    def _prune(self, folds: list[dict[str, float]], earlier: Sequence[Trial]) -> None:
        metric, name = METRICS[self._experiment.search.metric], f"validation_{self._experiment.search.metric}"
        so_far = [fold[name] for fold in folds]
        others = means_after(len(folds), name, earlier)
        if len(folds) < _FOLDS_BEFORE_PRUNING or len(others) < _TRIALS_BEFORE_PRUNING:
            return
        mean, median = statistics.fmean(so_far), statistics.median(others)
        if metric.loss(mean) > metric.loss(median):
            raise Pruned(
                f"{name} {mean:.6g} after {len(folds)} folds is worse than the earlier trials' median, {median:.6g}",
                {f"fold_{index}_{name}": value for index, value in enumerate(so_far)},
            )

    def _measure(self, parameters: Parameters, fit_rows: DataFrame, all_rows: DataFrame) -> dict[str, float]:
        experiment, classes = self._experiment, self._rows.classes
        started = time.monotonic()
        model = self._trainer.fit(
            fit_rows,
            parameters,
            experiment.problem,
            classes,
            experiment.search.seed,
            self._early_stopping(all_rows.where(F.col(SPLIT) == "validation")),
        )
        fitted = time.monotonic()
        metrics = score_splits(model.transform(all_rows), experiment.problem, classes, self._scored_by)
        metrics["fit_s"] = fitted - started
        if experiment.search.early_stopping_rounds:
            metrics[ROUNDS] = self._trainer.rounds(model)
        metrics["score_ms_per_row"] = (time.monotonic() - fitted) * 1000 / max(1, self._rows.count)
        if self._measures_size:
            metrics["model_size_mb"] = self._trainer.model_size(model) / 2**20
        return metrics


class OwnFunction:
    """Calls a function of the user's, as Hyperopt's `fmin` would, but with the rows as well.

    It is called with the parameters and a `Rows`, and returns a loss (lower is better), or a mapping with `loss`, maybe
    `status` ("ok" or "fail"), and further numbers to log.
    """

    def __init__(self, function: Callable[[Parameters, Rows], Any], experiment: Experiment, rows: Rows) -> None:
        self._function, self._experiment, self._rows = function, experiment, rows

    def __call__(self, setting: Setting, attempt: Attempt) -> dict[str, float]:
        parameters = {**self._experiment.model.fixed, **flatten(setting)}
        returned = self._function(parameters, self._rows)
        result = returned if isinstance(returned, Mapping) else {"loss": returned}
        if result.get("status", "ok") != "ok":
            raise ValueError(f"the objective said {result['status']!r}")
        metric = METRICS[self._experiment.search.metric]
        # NumPy's numbers too, which are no float of Python's.
        numbers = {name: float(value) for name, value in result.items() if isinstance(value, SupportsFloat)}
        if "loss" not in numbers:
            raise ValueError(f"the objective returned {returned!r}, not a loss or a mapping with one")
        # A loss is the metric with its sign turned where higher is better, so the same turn leads back.
        value = metric.loss(numbers.pop("loss"))
        return {**numbers, f"validation_{metric.name}": value}


def summarize_folds(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return mean and standard deviation over folds of all that was measured, and the validation metrics by fold.

    The deviation is that of a sample (divided by folds - 1).
    """
    summary: dict[str, float] = {}
    for name in folds[0]:
        values = [fold[name] for fold in folds]
        summary[name] = statistics.fmean(values)
        if name.startswith("validation_"):
            finite = all(map(math.isfinite, values))
            summary[f"{name}_std"] = statistics.stdev(values) if finite else math.nan
            summary |= {f"fold_{index}_{name}": value for index, value in enumerate(values)}
    return summary


def means_after(folds: int, name: str, trials: Sequence[Trial]) -> list[float]:
    """Return the mean over the first `folds` folds of each trial that got so far."""
    names = [f"fold_{index}_{name}" for index in range(folds)]
    return [
        statistics.fmean(trial.metrics[each] for each in names)
        for trial in trials
        if all(each in trial.metrics for each in names)
    ]
