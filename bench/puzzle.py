"""Trials of single-machine models: by one process, by Spark tasks as `hyperopt.SparkTrials` has them, and by retune's.

The puzzle, of 2022: why trials in Spark tasks take longer than one after the other in a single process.
"""

from __future__ import annotations

import os

from measure import Figure, Skipped
from peers import ask_peer
from place import Place
from stages import prepare_search
from warm import tuning

NAME = "puzzle"
ROUNDS = 1
_TRIALS = 16
_EXPERIMENT = """
name: {name}
data: {{source: sklearn, dataset: diabetes, target: target}}
problem: regression
split: {{validation: 0.2, test: 0.05, seed: 42}}
model: {model}
search: {{metric: rmse, max_trials: 16, space: {space}}}
"""
_SECTIONS = {
    "forest": {
        "model": "{trainer: sklearn, fixed: {estimator: sklearn.ensemble.RandomForestRegressor}}",
        "space": "{n_estimators: {type: uniformint, low: 50, high: 200}, max_depth: {type: uniformint, low: 2, "
        "high: 12}, min_samples_leaf: {type: uniformint, low: 1, high: 20}}",
    },
    "lightgbm": {
        "model": "{trainer: lightgbm}",
        "space": "{n_estimators: {type: uniformint, low: 20, high: 200}, num_leaves: {type: uniformint, low: 3, "
        "high: 31}, learning_rate: {type: loguniform, low: 0.01, high: 0.3}, min_child_samples: {type: uniformint, "
        "low: 5, high: 40}}",
    },
}
_PARALLELISMS = (1, 2, 8)
_TWO = "retune, 2 at once"
_MODELS = {"forest": "Random forests (scikit-learn)", "lightgbm": "LightGBM"}


def measure(place: Place, rounds: int) -> list[Figure]:
    """Search each model in every way, one round after the other."""
    if (os.cpu_count() or 1) < 2:
        raise Skipped("Trials side by side take two cores")
    return [figure for model in _MODELS for figure in _measure_model(place, model, rounds)]


def _measure_model(place: Place, model: str, rounds: int) -> list[Figure]:
    what = (
        f"{_TRIALS} trials on the diabetes set, the same space for all: serial `fmin` in one process, "
        "`hyperopt.SparkTrials` and retune's placement `task`, each in a warm session. The search alone counts, from "
        "the first proposal to the last trial's end. retune caps what is asked for to the slots."
    )
    serial = Figure(
        f"puzzle_{model}", f"{_MODELS[model]} in Spark tasks, two at a time, over one after the other", what, goal=None
    )
    spark_trials = Figure(
        f"spark_trials_{model}", f"{_MODELS[model]}: SparkTrials(2) over two at a time in retune", what, goal=10,
        at_least=True,
    )  # fmt: skip
    for _ in range(rounds):
        parts = {"serial fmin": _ask(place, model, 0)}
        parts |= {f"SparkTrials({each})": _ask(place, model, each) for each in _PARALLELISMS}
        parts["SparkTrials(8), all queued at once"] = _ask(place, model, 8, queue=_TRIALS)
        parts |= {f"SparkTrials({each}), nothing to fit": _ask(place, "nothing", each) for each in (1, 8)}
        parts |= _ours(place, model)
        serial.add(parts[_TWO] / parts["serial fmin"], parts)
        both = ("SparkTrials(2)", _TWO)
        spark_trials.add(parts[both[0]] / parts[both[1]], {each: parts[each] for each in both})
    return [serial, spark_trials]


def _ours(place: Place, model: str) -> dict[str, float]:
    """Return the seconds of retune's searches; the session and its Python workers are warm before the first."""
    path = place.home / f"puzzle_{model}.yaml"
    path.write_text(_EXPERIMENT.format(name=path.stem, **_SECTIONS[model]), encoding="utf-8")
    with tuning(place, prepare_search(place, path)) as held:
        seconds = {}
        for each in _PARALLELISMS:
            capped = "" if each <= held.slots else f", capped to {held.slots}"
            wanted = min(each, held.slots)
            seconds[f"retune, {each} at once{capped}"] = held.search(_TRIALS, parallel_trials=wanted)[1]
        return seconds


def _ask(place: Place, model: str, parallelism: int, queue: int = 1) -> float:
    asked = (model, str(_TRIALS), str(parallelism), str(queue))
    return float(ask_peer(place, "puzzle_peers.py", *asked)["search_s"])
