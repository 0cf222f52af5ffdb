"""Figures that are logged to MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from retune.metrics import Metric
from retune.search.trial import Trial
from retune.sweep import Score, name_settings

_MOST_NAMED = 40  # settings whose parameters have room beside the figure


def plot_search(trials: Sequence[Trial], metric: Metric) -> Figure:
    """Plot the validation metric by trial, the best so far, and where trials failed."""
    name = f"validation_{metric.name}"
    done = [(t.number, t.metrics[name]) for t in trials if t.loss is not None]
    failed = [t.number for t in trials if t.error is not None]
    best: list[float] = []
    for _, value in done:
        best.append(value if not best or metric.gain(value, over=best[-1]) > 0 else best[-1])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    numbers = [number for number, _ in done]
    axes.plot(numbers, [value for _, value in done], "o", color="tab:blue", label="trial")
    axes.step(numbers, best, where="post", color="tab:orange", label="best so far")
    for index, number in enumerate(failed):
        axes.axvline(number, color="tab:red", linestyle=":", label="failed" if index == 0 else None)
    axes.set(xlabel="trial", ylabel=name, title=f"{len(trials)} trials")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def plot_sweep(scores: Sequence[Score], scorer: str) -> Figure:
    """Plot mean and deviation of each setting, best first; by their parameters, as long as there is room for them."""
    done = sorted((score for score in scores if score.folds), key=lambda score: (-score.mean, score.trial))
    named = len(done) <= _MOST_NAMED
    figure = Figure(figsize=(9, 1.6 + 0.28 * len(done)) if named else (9, 5), layout="constrained")
    axes = figure.subplots()
    places, means = range(1, len(done) + 1), [score.mean for score in done]
    deviations = [score.std for score in done]
    style: dict[str, Any] = {"fmt": "o", "markersize": 4, "capsize": 2, "elinewidth": 1, "color": "tab:blue"}
    if named:
        axes.errorbar(means, places, xerr=deviations, **style)
        axes.set_yticks(places, name_settings(done))
        axes.set(xlabel=scorer)
        axes.invert_yaxis()
    else:
        axes.errorbar(places, means, yerr=deviations, **style)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="setting, best first", ylabel=scorer)
    best = f"; best: trial {done[0].trial}, {name_settings(done)[0]}" if done and not named else ""
    axes.set_title(f"{len(done)} of {len(scores)} settings, mean ± std over folds{best}", fontsize="medium")
    return figure


def plot_predictions(truth: Sequence[float], predicted: Sequence[float], target: str) -> Figure:
    """Plot predictions against truth, with the line on which they would be equal."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(truth, predicted, ".", alpha=0.4)
    ends = [min(*truth, *predicted), max(*truth, *predicted)]
    axes.plot(ends, ends, color="black", linewidth=1)
    axes.set(xlabel=f"{target}, truth", ylabel=f"{target}, predicted", title=f"challenger, {len(truth)} test rows")
    return figure


def plot_confusion(cells: Mapping[tuple[int, int], int], classes: Sequence[Any]) -> Figure:
    """Plot the confusion matrix: rows are the truth, columns the prediction; numbers are test rows."""
    size = len(classes)
    matrix = [[cells.get((truth, predicted), 0) for predicted in range(size)] for truth in range(size)]
    side = max(4.0, 0.6 * size + 2)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix, cmap="Blues")
    middle = max(map(max, matrix)) / 2
    for truth, row in enumerate(matrix):
        for predicted, count in enumerate(row):
            color = "white" if count > middle else "black"
            axes.text(predicted, truth, str(count), ha="center", va="center", color=color)
    names = [str(value) for value in classes]
    axes.set_xticks(range(size), names, rotation=45, ha="right")
    axes.set_yticks(range(size), names)
    axes.set(xlabel="predicted", ylabel="truth", title=f"challenger, {sum(cells.values())} test rows")
    return figure
