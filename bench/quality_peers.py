"""A search for a native LightGBM model within a time, for the peers' Python; prints the test R² as JSON.

Arguments: `optuna` or `flaml`, or another, whose search is over; and a JSON file that says what to search on and, of
that one, what it found.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMRegressor
from sklearn.metrics import r2_score

Side = tuple[pd.DataFrame, "pd.Series[float]"]


def build(order: dict[str, Any], setting: dict[str, Any], threads: int) -> LGBMRegressor:
    """Return a model, unfitted, with what retune's trainer sets as well."""
    fixed = {"deterministic": True, "force_row_wise": True, "verbosity": -1}
    return LGBMRegressor(**setting, **fixed, n_jobs=threads, random_state=order["seed"])


def search_optuna(order: dict[str, Any], train: Side, validation: Side) -> tuple[Any, int]:
    """Return the best model, unfitted, and the number of trials."""
    import optuna

    def draw(trial: optuna.Trial, name: str, dimension: dict[str, Any]) -> float:
        low, high, log = dimension["low"], dimension["high"], "log" in dimension["type"]
        draw = trial.suggest_int if "q" in dimension else trial.suggest_float
        return draw(name, low, high, log=log)

    def objective(trial: optuna.Trial) -> float:
        setting = {name: draw(trial, name, dimension) for name, dimension in order["space"].items()}
        predicted = build(order, setting, threads=1).fit(*train).predict(validation[0])
        return float(np.sqrt(np.mean((predicted - validation[1]) ** 2)))

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=order["seed"]))
    study.optimize(objective, timeout=order["seconds"], n_jobs=order["threads"])
    return build(order, study.best_params, order["threads"]), len(study.trials)


def search_flaml(order: dict[str, Any], train: Side, validation: Side) -> tuple[Any, int]:
    """Return the best model, unfitted, and the number of trials."""
    from flaml import AutoML
    from sklearn.base import clone

    automl = AutoML()
    automl.fit(
        *train,
        X_val=validation[0],
        y_val=validation[1],
        task="regression",
        metric="rmse",
        estimator_list=["lgbm"],
        eval_method="holdout",
        time_budget=order["seconds"],
        retrain_full=False,
        seed=order["seed"],
        n_jobs=order["threads"],
        verbose=0,
    )
    return clone(automl.model.estimator), len(automl.config_history)


def main() -> None:
    contender, path = sys.argv[1:]
    order = json.loads(Path(path).read_text(encoding="utf-8"))
    train, validation, test = (read_side(order, split) for split in ("train", "validation", "test"))
    if "found" in order:
        told = order["found"]
        model = build(order, told["setting"], order["threads"])
    else:
        build(order, {"n_estimators": 20}, order["threads"]).fit(*train)  # as the session of the other is warm
        search = {"optuna": search_optuna, "flaml": search_flaml}[contender]
        started = time.perf_counter()
        model, trials = search(order, train, validation)
        told = {"trials": trials, "search_s": time.perf_counter() - started}
    features, target = (pd.concat(both) for both in zip(train, validation, strict=True))
    score = float(r2_score(test[1], model.fit(features, target).predict(test[0])))
    print(json.dumps({**told, "test_r2": score}))


def read_side(order: dict[str, Any], split: str) -> Side:
    rows = pd.read_parquet(order["rows"][split], columns=[*order["features"], "retune_label"])
    return rows[order["features"]], rows["retune_label"]


if __name__ == "__main__":
    main()
