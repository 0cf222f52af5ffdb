"""Trials side by side: two distributed fits at once over one after the other, and Spark tasks over Optuna's threads."""

from __future__ import annotations

import json
import os

from measure import Figure
from peers import ask_peer
from place import Place
from rows import prepare_california
from stages import prepare_search
from warm import tuning

from retune.handoff import FEATURE_LIST

NAME = "side_by_side"
ROUNDS = 3
_CLUSTER_TRIALS = 12
_TASK_TRIALS = 32
_EXPERIMENT = """
name: california_tasks
data: {source: sklearn, dataset: california_housing, target: MedHouseVal}
problem: regression
split: {validation: 0.15, test: 0.25, seed: 42}
model: {trainer: lightgbm, fixed: {n_estimators: 250, num_leaves: 31}}
search:
  engine: optuna
  algorithm: tpe
  metric: rmse
  max_trials: 32
  space:
    learning_rate: {type: loguniform, low: 0.02, high: 0.3}
    min_child_samples: {type: uniformint, low: 5, high: 100}
    reg_lambda: {type: loguniform, low: 0.001, high: 10}
"""


def measure(place: Place, rounds: int) -> list[Figure]:
    """Measure both, each in one warm session."""
    return [_cluster(place, rounds), _tasks(place, rounds)]


def _cluster(place: Place, rounds: int) -> Figure:
    figure = Figure(
        "parallel_trials",
        "Placement `cluster`: two trials at once over one, throughput",
        f"A random search of {_CLUSTER_TRIALS} trials of `california_housing` with `parallel_trials: 2`, against the "
        "same trials one after the other, by turns in one warm session.",
        goal=1.3,
        at_least=True,
    )
    with tuning(place, prepare_california(place)) as held:
        for _ in range(rounds):
            one, two = (
                held.search(_CLUSTER_TRIALS, algorithm="rand", algorithm_settings={}, parallel_trials=n)[1]
                for n in (1, 2)
            )
            figure.add(one / two, {"one at a time": one, "two at a time": two})
    return figure


def _tasks(place: Place, rounds: int) -> Figure:
    figure = Figure(
        "task_optuna",
        "Placement `task` over Optuna with as many threads",
        f"A search of {_TASK_TRIALS} native LightGBM trials on California Housing by Optuna's tpe: in Spark tasks, one "
        "a core, against `study.optimize(n_jobs=cores)` in one process; the same rows, in the same order, and the same "
        "space, in which all fits take about the same time; both warm.",
        goal=1.2,
    )
    path = place.home / "california_tasks.yaml"
    path.write_text(_EXPERIMENT, encoding="utf-8")
    with tuning(place, prepare_search(place, path)) as held:
        task = {
            "features": [each["name"] for each in held.stage.artifact("featurize", FEATURE_LIST)["features"]],
            "trials": _TASK_TRIALS,
            "threads": os.cpu_count(),
            **{split: held.stage.output("featurize", split) for split in ("train", "validation")},
        }
        (place.home / "optuna_task.json").write_text(json.dumps(task), encoding="utf-8")
        held.search(_TASK_TRIALS)  # four trials leave the JVM cold: a task costs it twice as much then
        for _ in range(rounds):
            _, ours = held.search(_TASK_TRIALS)
            theirs = float(ask_peer(place, "optuna_loop.py", str(place.home / "optuna_task.json"))["loop_s"])
            figure.add(ours / theirs, {"retune": ours, "Optuna": theirs})
    return figure
