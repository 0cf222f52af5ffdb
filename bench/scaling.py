"""How the time of a search grows with its trials, and with its rows: at most as much as they do."""

from __future__ import annotations

import statistics

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from measure import Figure
from place import ROOT, Place
from rows import prepare
from warm import tuning

from retune.trial_runs import TrialRuns

NAME = "scaling"
ROUNDS = 2
PLOT = ROOT / "docs" / "benchmarks_scaling.png"
_TRIALS = (8, 24, 64)
_ROWS = (20_000, 200_000, 1_000_000)
_SPACE = {
    "learningRate": {"type": "loguniform", "low": 0.02, "high": 0.3},
    "minDataInLeaf": {"type": "uniformint", "low": 5, "high": 100},
}
"""What hardly changes the time of a fit, so that a search costs what its trials and rows cost."""


def measure(place: Place, rounds: int) -> list[Figure]:
    """Measure both, and plot them."""
    figures = [_measure_trials(place, rounds), _measure_rows(place, rounds)]
    _plot(figures)
    return figures


def _measure_trials(place: Place, rounds: int) -> Figure:
    figure = Figure(
        "scaling_trials",
        f"Time of {_TRIALS[-1]} trials over {_TRIALS[-1] // _TRIALS[0]} times that of {_TRIALS[0]}",
        f"Tracked tpe searches over {_ROWS[0]:,} synthetic rows in one warm session, with numLeaves and "
        "numIterations at their defaults; 1 is linear, and less is better than that. The longest search comes first, "
        f"so that a JVM that still warms up does not flatter it. Plotted in [{PLOT.name}]({PLOT.name}).",
        goal=1,
    )
    with tuning(place, prepare(place, _ROWS[0])) as held:
        for _ in range(rounds):
            longest_first = [held.search(trials, TrialRuns(held.stage), space=_SPACE)[1] for trials in _TRIALS[::-1]]
            times = longest_first[::-1]
            figure.add(_growth(_TRIALS, times), _parts(_TRIALS, times, "trials"))
    return figure


def _measure_rows(place: Place, rounds: int) -> Figure:
    figure = Figure(
        "scaling_rows",
        f"Time over {_ROWS[-1]:,} rows over {_ROWS[-1] // _ROWS[0]} times that over {_ROWS[0]:,}",
        f"Tracked tpe searches of {_TRIALS[0]} trials over synthetic rows, each size in a warm session of its own; 1 "
        "is linear, and less is better than that.",
        goal=1,
    )
    times: dict[int, list[float]] = {}
    for rows in _ROWS:
        with tuning(place, prepare(place, rows)) as held:
            times[rows] = [held.search(_TRIALS[0], TrialRuns(held.stage), space=_SPACE)[1] for _ in range(rounds)]
    for round_times in zip(*times.values(), strict=True):
        figure.add(_growth(_ROWS, round_times), _parts(_ROWS, round_times, "rows"))
    return figure


def _growth(sizes: tuple[int, ...], times: list[float] | tuple[float, ...]) -> float:
    return (times[-1] / times[0]) / (sizes[-1] / sizes[0])


def _parts(sizes: tuple[int, ...], times: list[float] | tuple[float, ...], unit: str) -> dict[str, float]:
    return {f"{size:,} {unit}": seconds for size, seconds in zip(sizes, times, strict=True)}


def _plot(figures: list[Figure]) -> None:
    drawing = Drawing(figsize=(9, 3.6), layout="constrained")
    by_trials, by_rows = drawing.subplots(1, 2)
    _plot_growth(by_trials, figures[0], _TRIALS, "trials")
    _plot_growth(by_rows, figures[1], _ROWS, "rows")
    drawing.savefig(PLOT, dpi=120)


def _plot_growth(axes: Axes, figure: Figure, sizes: tuple[int, ...], label: str) -> None:
    medians = [statistics.median(values) for values in figure.parts.values()]
    axes.loglog(sizes, medians, "o-", label="measured")
    axes.loglog(sizes, [medians[0] * size / sizes[0] for size in sizes], "--", color="grey", label="linear")
    axes.set(xlabel=label, ylabel="seconds of the search")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.legend()
