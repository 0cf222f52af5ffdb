"""A grid with cross-validation in Spark tasks over scikit-learn's `GridSearchCV`: same settings, folds and scores."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measure import BenchError, Figure, ask_process
from place import ROOT, Place
from stages import prepare_search
from warm import Tuning, open_tuning, warm_session

from retune.data.table import write_table
from retune.placements.task_rows import read_table
from retune.search.plan import Result
from retune.trial_runs import TrialRuns

NAME = "grid_cv"
ROUNDS = 1
_ROWS, _FEATURES, _CLASSES, _SETTINGS = 360, 8, 12, 120
_FIXED = {
    "objective": "multi:softprob",
    "max_depth": 4,
    "reg_alpha": 1,
    "reg_lambda": 1,
    "colsample_bytree": 1,
    "learning_rate": 0.1,
}
_GRID: dict[str, list[Any]] = {
    "n_estimators": [300, 400, 500, 600, 700],
    "colsample_bylevel": [0.01, 0.1, 0.5, 1],
    "subsample": [0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
}
_MOST_DIFFERENCE = 1e-6


def measure(place: Place, rounds: int) -> Figure:
    """Search by turns, each round anew: fits that settings share are not remembered from the round before."""
    figure = Figure(
        NAME,
        "A grid with cross-validation over `GridSearchCV`",
        f"{_SETTINGS} settings of XGBoost × 5 folds on {_ROWS} rows of {_CLASSES} classes, {_FEATURES} features: in "
        "Spark tasks, where settings that differ in `n_estimators` alone share their fits, against "
        "`GridSearchCV(n_jobs=cores)` in one process. The same rows, folds and seed, one thread a fit, both warm; "
        "ours keeps each trial in MLflow.",
        goal=0.5,
    )
    featurized = prepare_search(place, _write_experiment(place))
    with warm_session(place) as spark:
        with open_tuning(place, spark, featurized) as held:
            held.search(1)
        for _ in range(rounds):
            with open_tuning(place, spark, featurized) as held:
                result, ours = held.search(_SETTINGS, TrialRuns(held.stage))
                told = _ask_scikit_learn(place, held)
            differs = _compare(result, told)
            figure.add(ours / told["search_s"], {"retune": ours, "GridSearchCV": told["search_s"]})
            figure.remark = (
                f"The same best setting, {result.best.setting}; mean scores differ by {differs:.1g} at most."
            )
    return figure


def _write_experiment(place: Place) -> Path:
    """Write rows of mostly empty features, whose class tells which are there more often, and the experiment."""
    drawn = np.random.default_rng(42)
    label = np.arange(_ROWS) % _CLASSES
    often = label[:, None] >> np.arange(_FEATURES) & 1
    there = drawn.random((_ROWS, _FEATURES)) < np.where(often, 0.6, 0.15)
    frame = pd.DataFrame(np.where(there, drawn.random(there.shape), 0.0)).rename(columns="x{}".format)
    frame.assign(label=label).to_parquet(place.home / "grid_cv.parquet", index=False)
    experiment = {
        "name": "grid_cv",
        "data": {"source": "file", "path": str(place.home / "grid_cv.parquet"), "target": "label"},
        "problem": "multiclass",
        "split": {"validation": 0.2, "test": 0.15},
        "model": {"trainer": "xgboost", "fixed": _FIXED},
        "search": {
            "engine": "grid",
            "metric": "log_loss",
            "validation": "cross_validation",
            "space": {name: {"type": "choice", "options": options} for name, options in _GRID.items()},
        },
    }
    path = place.home / "grid_cv.yaml"
    path.write_text(json.dumps(experiment), encoding="utf-8")  # JSON is YAML
    return path


def _ask_scikit_learn(place: Place, held: Tuning) -> dict[str, Any]:
    """Have `GridSearchCV` search on the very rows and folds, in a process of its own."""
    task = {
        "folder": str(place.home),
        "files": vars(write_table(read_table(held.spark, held.stage), place.home, "grid_cv")),
        "fixed": {**_FIXED, "random_state": held.stage.experiment.search.seed},
        "grid": _GRID,
        "jobs": os.cpu_count(),
    }
    path = place.home / "grid_cv_task.json"
    path.write_text(json.dumps(task), encoding="utf-8")
    return ask_process([sys.executable, str(ROOT / "bench" / "grid_search_cv.py"), str(path)], place.env)


def _compare(result: Result, told: dict[str, Any]) -> float:
    """Return by how much the mean scores of a setting differ at most.

    Raises:
        BenchError: By more than a little, or another setting is best.
    """
    ours = {_key(trial.setting): -trial.metrics["validation_log_loss"] for trial in result.trials}
    theirs = {_key(setting): score for setting, score in zip(told["settings"], told["scores"], strict=True)}
    if ours.keys() != theirs.keys():
        raise BenchError(f"grid_cv: {len(ours)} settings, and {len(theirs)} others")
    differs = max(abs(ours[key] - theirs[key]) for key in ours)
    behind = theirs[_key(told["best"])] - theirs[_key(result.best.setting)]  # two may be best alike
    if max(differs, behind) > _MOST_DIFFERENCE:
        raise BenchError(f"grid_cv: scores differ by {differs}; best {result.best.setting}, and {told['best']}")
    return differs


def _key(setting: dict[str, Any]) -> str:
    return json.dumps(setting, sort_keys=True)
