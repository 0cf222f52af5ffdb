"""What a trial measures, wherever it runs: one fold or several, pruning, and what a function of the user's returns."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat

from retune.metrics import Metric
from retune.search.trial import Pruned, Trial
from retune.search_section import CrossValidation, Search, parse_constraint

ROUNDS = "rounds"
SIZE = "model_size_mb"
_LOGGED = re.compile(r"[/\w.\- :]{1,250}")  # what MLflow takes for a metric's name
_FOLDS_BEFORE_PRUNING = 2
_TRIALS_BEFORE_PRUNING = 5  # as Optuna's MedianPruner has it
_LEAST_SAMPLE, _MOST_SAMPLE = 1_000, 20_000

Measure = Callable[[int], dict[str, float]]
"""Fits to all folds but one, and returns what was measured on that one and on the others."""


def constrained_measures(search: Search) -> set[str]:
    """Return the measures that the constraints of a search hang on."""
    return {parse_constraint(text)[0] for text in search.constraints}


def scored_by(search: Search) -> str:
    """Return the metric that scoring must not leave out: the area under the curve takes sorting, so it does else."""
    auc = any(measure.endswith("_auc") for measure in constrained_measures(search))
    return "auc" if auc else search.metric


def fold_count(search: Search) -> int:
    """Return how many fits a trial makes."""
    return search.validation.folds if isinstance(search.validation, CrossValidation) else 1


def train_sample(held_out: int) -> int:
    """Return how many of the rows that a fit has seen it is scored on too: as many as it has not, within bounds.

    Enough for its metrics to show overfitting, and no more: on the cluster, scoring many rows costs as much as the fit.
    """
    return min(max(held_out, _LEAST_SAMPLE), _MOST_SAMPLE)


def pruning_bars(search: Search, metric: Metric, earlier: Sequence[Trial]) -> list[float | None]:
    """Return, by fold, the mean metric up to it that a trial must not be worse than; None where there is no bar."""
    folds = fold_count(search)
    if not (isinstance(search.validation, CrossValidation) and search.validation.prune):
        return [None] * folds
    bars: list[float | None] = []
    for fold in range(folds):
        others = means_after(fold + 1, f"validation_{metric.name}", earlier)
        early = fold + 1 < _FOLDS_BEFORE_PRUNING or len(others) < _TRIALS_BEFORE_PRUNING or fold + 1 == folds
        bars.append(None if early else statistics.median(others))
    return bars


def measure_folds(measure: Measure, metric: Metric, bars: Sequence[float | None]) -> dict[str, float]:
    """Measure fold after fold; one alone is told as it is, several by mean and deviation.

    Args:
        measure: Does one fold.
        metric: The search's.
        bars: As `pruning_bars` gives them, one a fold.

    Raises:
        Pruned: The trial is worse than a bar.
    """
    name = f"validation_{metric.name}"
    folds: list[dict[str, float]] = []
    for fold, bar in enumerate(bars):
        folds.append(measure(fold))
        mean = statistics.fmean(each[name] for each in folds)
        if bar is not None and metric.loss(mean) > metric.loss(bar):
            raise Pruned(
                f"{name} {mean:.6g} after {len(folds)} folds is worse than the earlier trials' median, {bar:.6g}",
                {f"fold_{index}_{name}": each[name] for index, each in enumerate(folds)},
            )
    return summarize_folds(folds) if len(folds) > 1 else folds[0]


def read_returned(returned: Any, metric: Metric) -> dict[str, float]:
    """Return the measures that a function of the user's returned.

    Args:
        returned: A loss (lower is better), or a mapping with `loss`, maybe `status` ("ok" or "fail"), and further
            numbers to log.
        metric: The search's.

    Raises:
        ValueError: There is no loss, or the status says so.
    """
    result = returned if isinstance(returned, Mapping) else {"loss": returned}
    if result.get("status", "ok") != "ok":
        raise ValueError(f"the objective said {result['status']!r}")
    numbers = {name: number for name, value in result.items() if (number := _as_number(value)) is not None}
    for name in numbers:
        if not _LOGGED.fullmatch(str(name)):
            raise ValueError(
                f"the objective returned {name!r}: a measure's name has letters, digits and _ . - / : only"
            )
    if "loss" not in numbers:
        raise ValueError(f"the objective returned {returned!r}, not a loss or a mapping with one")
    # A loss is the metric with its sign turned where higher is better, so the same turn leads back.
    return {f"validation_{metric.name}": metric.loss(numbers.pop("loss")), **numbers}


def _as_number(value: Any) -> float | None:
    """Return a number, NumPy's or Python's, as Python's float; None for all else, such as arrays."""
    try:
        return float(value) if isinstance(value, SupportsFloat) else None
    except (TypeError, ValueError):
        return None


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
