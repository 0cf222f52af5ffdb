"""Native LightGBM in one process, for the peers' Python: fits and scores settings, prints its seconds as JSON."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMRegressor

NAMES = {
    "learningRate": "learning_rate",
    "numLeaves": "num_leaves",
    "numIterations": "n_estimators",
    "minDataInLeaf": "min_child_samples",
    "featureFraction": "colsample_bytree",
    "lambdaL2": "reg_lambda",
}
"""SynapseML's names and LightGBM's."""


def build(setting: dict[str, Any], threads: int, seed: int = 42) -> LGBMRegressor:
    """Return a model of SynapseML's setting, unfitted."""
    ours = {NAMES[name]: int(value) if float(value).is_integer() else value for name, value in setting.items()}
    return LGBMRegressor(**ours, n_jobs=threads, random_state=seed, deterministic=True, verbosity=-1)


def rmse(model: LGBMRegressor, features: pd.DataFrame, target: "pd.Series[float]") -> float:
    return float(np.sqrt(np.mean((model.predict(features) - target) ** 2)))


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sides = []
    for split in ("train", "validation"):
        rows = pd.read_parquet(task[split], columns=[*task["features"], "retune_label"])
        sides.append((rows[task["features"]], rows["retune_label"]))
    train, label = sides[0]
    sides[0] = (train.head(task["train_sample"]), label.head(task["train_sample"]))
    build(task["settings"][0], task["threads"]).fit(train.head(1000), label.head(1000))
    scores = []
    started = time.perf_counter()
    for setting in task["settings"]:
        model = build(setting, task["threads"]).fit(train, label)
        scores.append([rmse(model, *side) for side in sides][-1])
    print(json.dumps({"loop_s": time.perf_counter() - started, "validation_rmse": scores}))


if __name__ == "__main__":
    main()
