"""An experiment file that is fine, for tests to change."""

from pathlib import Path
from typing import Any

import yaml

from retune.experiment import Experiment

GOOD = """\
name: flights
description: Delay on arrival
data:
  source: file
  path: data/flights.csv
  target: arr_delay
problem: regression
split:
  validation: 0.15
  test: 0.25
  seed: 42
  key: [flight]
features:
  drop: [comment]
  cast:
    carrier: string
model:
  trainer: synapseml_lightgbm
  fixed:
    objective: quantile
  untuned:
    learningRate: 0.1
    numLeaves: 31
search:
  engine: hyperopt
  algorithm: tpe
  metric: rmse
  max_trials: 12
  timeout: 30m
  seed: 42
  space:
    learningRate: {type: loguniform, low: 0.01, high: 0.3}
    numLeaves: {type: uniformint, low: 3, high: 31}
    boosting:
      type: choice
      options:
        - {boostingType: gbdt}
        - boostingType: dart
          dropRate: {type: uniform, low: 0, high: 1}
promotion:
  minimum_gain: 0.5
airflow:
  owner: ops
  tags: [nightly]
  retries: 2
  retry_delay: 30s
schedule: "@weekly"
"""


def write_experiment(folder: Path, text: str = GOOD, name: str = "flights") -> Path:
    """Write an experiment file and return its path."""
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def build_experiment(**changes: Any) -> Experiment:
    """Return the experiment with whole sections changed."""
    return Experiment.model_validate(yaml.safe_load(GOOD) | {"search": SEARCH} | changes)


SEARCH: dict[str, Any] = yaml.safe_load(GOOD)["search"] | {"timeout": 1800}
