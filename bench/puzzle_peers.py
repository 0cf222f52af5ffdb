"""A search of a single-machine model by Hyperopt, for the peers' Python; prints its seconds as JSON.

Arguments: the model (`forest`, `lightgbm`, or `nothing`), trials, the parallelism of `SparkTrials`, 0 for serial
`fmin`, and how many settings `fmin` queues at once.
"""

import json
import sys
import time
from typing import Any

import numpy as np
from hyperopt import STATUS_OK, SparkTrials, fmin, hp, tpe
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

_SPACES: dict[str, dict[str, Any]] = {
    "forest": {
        "n_estimators": hp.uniformint("n_estimators", 50, 200),
        "max_depth": hp.uniformint("max_depth", 2, 12),
        "min_samples_leaf": hp.uniformint("min_samples_leaf", 1, 20),
    },
    "lightgbm": {
        "n_estimators": hp.uniformint("n_estimators", 20, 200),
        "num_leaves": hp.uniformint("num_leaves", 3, 31),
        "learning_rate": hp.loguniform("learning_rate", np.log(0.01), np.log(0.3)),
        "min_child_samples": hp.uniformint("min_child_samples", 5, 40),
    },
    "nothing": {"x": hp.uniform("x", 0, 1)},
}


def build(model: str, setting: dict[str, Any]) -> Any:
    """Return the model, unfitted; the library is imported where it is fitted."""
    whole = {name: value if name == "learning_rate" else int(value) for name, value in setting.items()}
    if model == "forest":
        from sklearn.ensemble import RandomForestRegressor

        return RandomForestRegressor(**whole, random_state=42)
    from lightgbm import LGBMRegressor

    return LGBMRegressor(**whole, random_state=42, n_jobs=1, verbosity=-1)


def main() -> None:
    model, trials, parallelism, queue = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    features, target = load_diabetes(return_X_y=True)
    train, validation, train_y, validation_y = train_test_split(features, target, test_size=0.25, random_state=42)

    def objective(setting: dict[str, Any]) -> dict[str, Any]:
        predicted = build(model, setting).fit(train, train_y).predict(validation)
        return {"loss": float(np.sqrt(np.mean((predicted - validation_y) ** 2))), "status": STATUS_OK}

    def nothing(setting: dict[str, Any]) -> dict[str, Any]:
        return {"loss": setting["x"], "status": STATUS_OK}

    options: dict[str, Any] = {"max_evals": trials, "rstate": np.random.default_rng(42), "show_progressbar": False}
    if parallelism:
        from pyspark.sql import SparkSession

        spark = SparkSession.builder.master("local[*]").getOrCreate()
        spark.range(1).collect()  # the session is warm before the clock starts
        options["trials"] = SparkTrials(parallelism=parallelism)
    started = time.perf_counter()
    fmin(nothing if model == "nothing" else objective, _SPACES[model], tpe.suggest, max_queue_len=queue, **options)
    print(json.dumps({"search_s": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
