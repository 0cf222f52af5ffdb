"""A search for a native LightGBM model within a time, for the peers' Python; prints the test R² as JSON.

Arguments: `optuna` or `flaml`, and a JSON file that says what to search on.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from native_loop import build, rmse
from sklearn.metrics import r2_score

Side = tuple[pd.DataFrame, "pd.Series[float]"]


def search_optuna(order: dict[str, Any], train: Side, validation: Side) -> tuple[Any, int]:
    """Return the best model, unfitted, and the number of trials."""
    import optuna

    def draw(trial: optuna.Trial, name: str, dimension: dict[str, Any]) -> float:
        low, high = dimension["low"], dimension["high"]
        if dimension["type"] == "uniformint":
            return trial.suggest_int(name, low, high)
        return trial.suggest_float(name, low, high, log=dimension["type"] == "loguniform")

    def objective(trial: optuna.Trial) -> float:
        setting = {name: draw(trial, name, dimension) for name, dimension in order["space"].items()}
        return rmse(build(setting, os.cpu_count() or 1, order["seed"]).fit(*train), *validation)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=order["seed"]))
    study.optimize(objective, timeout=order["seconds"])
    return build(study.best_params, os.cpu_count() or 1, order["seed"]), len(study.trials)


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
        n_jobs=os.cpu_count(),
        verbose=0,
    )
    return clone(automl.model.estimator), len(automl.config_history)


def main() -> None:
    contender, path = sys.argv[1:]
    order = json.loads(Path(path).read_text(encoding="utf-8"))
    frame = pd.read_parquet(order["rows"])
    sides: dict[str, Side] = {
        split: (rows.drop(columns=[order["target"], order["split"]]), rows[order["target"]])
        for split, rows in frame.groupby(order["split"])
    }
    build({"numIterations": 20}, os.cpu_count() or 1).fit(*sides["train"])  # as the session of the others is warm
    search = {"optuna": search_optuna, "flaml": search_flaml}[contender]
    started = time.perf_counter()
    model, trials = search(order, sides["train"], sides["validation"])
    search_s = time.perf_counter() - started
    both = [pd.concat([sides["train"][index], sides["validation"][index]]) for index in (0, 1)]
    features, target = sides["test"]
    score = float(r2_score(target, model.fit(*both).predict(features)))
    print(json.dumps({"test_r2": score, "trials": trials, "search_s": search_s}))


if __name__ == "__main__":
    main()
