"""How long Spark ML's `CrossValidator` takes over the placement `cluster`: the same grid, folds and fits at once."""

from __future__ import annotations

import time
from itertools import product

from measure import Figure
from place import Place
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from rows import require_california
from stages import prepare_search
from synapse.ml.lightgbm import LightGBMRegressor
from warm import Tuning, tuning

from retune.data.splits import LABEL
from retune.features.base import FEATURES

NAME = "cross_validator"
ROUNDS = 3
_GRID = {"numLeaves": [15, 31, 63], "numIterations": [40, 80]}
_FOLDS = 3
_PARALLEL = 2
_SETTINGS = len(list(product(*_GRID.values())))
_SPACE = ", ".join(f"{name}: {{type: choice, options: {options}}}" for name, options in _GRID.items())
_EXPERIMENT = f"""
name: california_folds
data: {{source: sklearn, dataset: california_housing, target: MedHouseVal}}
problem: regression
split: {{validation: 0.15, test: 0.25, seed: 42}}
model: {{trainer: synapseml_lightgbm}}
search:
  engine: grid
  metric: rmse
  parallel_trials: {_PARALLEL}
  validation: {{type: cross_validation, folds: {_FOLDS}}}
  space: {{{_SPACE}}}
"""


def measure(place: Place, rounds: int) -> Figure:
    """Search by turns in one warm session."""
    figure = Figure(
        NAME,
        "Spark ML's `CrossValidator` over a grid with cross-validation",
        f"`CrossValidator` over SynapseML's `LightGBMRegressor`, {_SETTINGS} settings × {_FOLDS} folds on California "
        f"Housing, `parallelism={_PARALLEL}`, against retune's grid in the placement `cluster` with as many trials at "
        "once (untracked, for `CrossValidator` keeps nothing of a fit but its score). The same rows, laid out and held "
        "in memory, in one warm session. `CrossValidator` fits the best setting to all rows, too: that makes "
        f"{_SETTINGS * _FOLDS + 1} fits; retune scores a sample of train rows beside those held out.",
        goal=None,
    )
    require_california()
    path = place.home / "california_folds.yaml"
    path.write_text(_EXPERIMENT, encoding="utf-8")
    with tuning(place, prepare_search(place, path)) as held:
        for _ in range(rounds):
            result, ours = held.search(_SETTINGS)
            best, theirs = _cross_validate(held)
            figure.add(theirs / ours, {"CrossValidator": theirs, "retune": ours})
    figure.remark = (
        f"Best mean RMSE over folds, which each draws for itself: {best:.4f}, retune {result.best.loss:.4f}."
    )
    return figure


def _cross_validate(held: Tuning) -> tuple[float, float]:
    """Return the best mean RMSE and the seconds."""
    estimator = LightGBMRegressor(featuresCol=FEATURES, labelCol=LABEL)
    grid = ParamGridBuilder()
    for name, options in _GRID.items():
        grid.addGrid(estimator.getParam(name), options)
    search = CrossValidator(
        estimator=estimator,
        estimatorParamMaps=grid.build(),
        evaluator=RegressionEvaluator(labelCol=LABEL, metricName="rmse"),
        numFolds=_FOLDS,
        seed=42,
        parallelism=_PARALLEL,
    )
    started = time.perf_counter()
    scores = search.fit(held.rows.all.select(FEATURES, LABEL)).avgMetrics
    return min(scores), time.perf_counter() - started
