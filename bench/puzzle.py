"""Trials of single-machine models: by one process, by Spark tasks as `hyperopt.SparkTrials` has them, and by retune's.

The puzzle, of 2022: why trials in Spark tasks take longer than one after the other in a single process.
"""

from __future__ import annotations

from measure import Figure
from peers import ask_peer
from place import Place

NAME = "puzzle"
ROUNDS = 1
_TRIALS = 16
_PARALLELISMS = (1, 2, 8)
_MODELS = {"forest": "Random forests (scikit-learn)", "lightgbm": "LightGBM"}


def measure(place: Place, rounds: int) -> list[Figure]:
    """Search each model in every way, one round after the other."""
    return [_measure_model(place, model, rounds) for model in _MODELS]


def ours(place: Place, model: str, trials: int, parallelism: int) -> float | None:  # noqa: ARG001
    """Return the seconds of retune's search by placement `task`; None as long as there is none.

    This is the place to plug it in: the same data set (`load_diabetes`), split (a quarter for validation, seed 42) and
    space as in `puzzle_peers.py`, a warm Spark session of `local[*]`, and the clock on the search alone.
    """
    return None


def _measure_model(place: Place, model: str, rounds: int) -> Figure:
    has_ours = ours(place, model, 1, 1) is not None
    best = "retune's placement `task`" if has_ours else "`hyperopt.SparkTrials`"
    figure = Figure(
        f"puzzle_{model}",
        f"{_MODELS[model]} in Spark tasks, two at a time, over one after the other",
        f"{_TRIALS} trials on the diabetes set by {best} of parallelism 2 in a warm session, against serial `fmin` in "
        "one process, on the same space. The search alone counts, from the first proposal to the last trial's end; "
        "each side is a process of its own, whose libraries the first fit imports.",
        goal=1 if has_ours else None,
    )
    for _ in range(rounds):
        parts = {"serial fmin": _ask(place, model, 0)}
        parts |= {f"SparkTrials({each})": _ask(place, model, each) for each in _PARALLELISMS}
        retune = {f"retune, {each} at once": ours(place, model, _TRIALS, each) for each in _PARALLELISMS}
        parts |= {name: seconds for name, seconds in retune.items() if seconds is not None}
        figure.add(parts.get("retune, 2 at once", parts["SparkTrials(2)"]) / parts["serial fmin"], parts)
    return figure


def _ask(place: Place, model: str, parallelism: int) -> float:
    return float(ask_peer(place, "puzzle_peers.py", model, str(_TRIALS), str(parallelism))["search_s"])
