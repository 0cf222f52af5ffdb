"""What figures search on, after real ingest and featurize: California Housing, and rows made up with a signal in them.

Each is prepared once for all figures of a run.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from measure import Skipped
from place import ROOT, Place
from stages import prepare_search

CALIFORNIA = "california"
CALIFORNIA_TRIALS = 8
TARGET = "y"
_FEATURES = 12
_SEED = 42
_EXPERIMENT = """
name: {name}
data: {{source: {source}, target: {target}}}
problem: regression
split: {{validation: 0.1, test: 0.1, seed: 42}}
model: {{trainer: synapseml_lightgbm}}
search:
  metric: rmse
  max_trials: 8
  space:
    learningRate: {{type: loguniform, low: 0.02, high: 0.3}}
    numLeaves: {{type: uniformint, low: 8, high: 63}}
    numIterations: {{type: uniformint, low: 20, high: 100}}
    minDataInLeaf: {{type: uniformint, low: 5, high: 100}}
schedule: null
"""


def require_california() -> None:
    """Check that scikit-learn has California Housing without a download.

    Raises:
        Skipped: It has not.
    """
    from sklearn.datasets import fetch_california_housing

    try:
        fetch_california_housing(download_if_missing=False)
    except OSError as missing:
        raise Skipped(
            "California Housing is not on this machine; let scikit-learn download it, or set SCIKIT_LEARN_DATA"
        ) from missing


@cache
def prepare_california(place: Place) -> str:
    """Ingest and featurize the example experiment on California Housing; return the featurize run."""
    require_california()
    return prepare_search(place, ROOT / "experiments" / "california_housing.yaml", max_trials=CALIFORNIA_TRIALS)


@cache
def prepare(place: Place, rows: int | None) -> str:
    """Ingest and featurize that many synthetic rows, or California Housing; return the featurize run."""
    if rows is None:
        require_california()
        name, source, target = CALIFORNIA, "sklearn, dataset: california_housing", "MedHouseVal"
    else:
        name, source, target = f"synthetic_{rows}", f"file, path: {write_synthetic(place, rows)}", TARGET
    path = place.home / f"{name}.yaml"
    path.write_text(_EXPERIMENT.format(name=name, source=source, target=target), encoding="utf-8")
    return prepare_search(place, path)


@cache
def write_synthetic(place: Place, rows: int) -> Path:
    """Write so many rows as Parquet, once."""
    path = place.home / f"synthetic_{rows}.parquet"
    make_synthetic(rows, _SEED).to_parquet(path, index=False)
    return path


def make_synthetic(rows: int, seed: int) -> pd.DataFrame:
    """Make rows whose target is Friedman's function of five features, an interaction of two more, and noise."""
    generator = np.random.default_rng(seed)
    x = generator.random((rows, _FEATURES))
    signal = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    signal += 8 * (x[:, 5] > 0.5) * x[:, 6]
    frame = pd.DataFrame(x, columns=[f"x{index}" for index in range(_FEATURES)])
    frame[TARGET] = signal + generator.normal(size=rows)
    return frame
