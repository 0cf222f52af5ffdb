"""How long Spark ML's own gradient-boosted trees take, over SynapseML's LightGBM that is at least as good."""

from __future__ import annotations

import time

from measure import BenchError, Figure
from place import Place
from pyspark.ml import Transformer
from pyspark.ml.regression import GBTRegressor
from pyspark.sql import DataFrame
from rows import prepare
from warm import Tuning, tuning

from retune.data.splits import LABEL, SPLIT
from retune.evaluation import score_splits
from retune.features.base import FEATURES
from retune.trainers.base import PREDICTION

NAME = "gbt"
ROUNDS = 2
_ROWS = 200_000
_GBT = {"maxIter": 20, "maxDepth": 5, "seed": 42}
_ITERATIONS = (10, 20, 40, 80, 160)


def measure(place: Place, rounds: int) -> Figure:
    """Fit both by turns in one warm session; LightGBM with the fewest iterations that are as good."""
    figure = Figure(
        NAME,
        "Spark ML's GBT over SynapseML at equal quality",
        f"`GBTRegressor` ({_GBT['maxIter']} iterations, depth {_GBT['maxDepth']}, rows in a partition a core) "
        f"against LightGBM as retune fits it, with the fewest of {', '.join(map(str, _ITERATIONS))} iterations whose "
        f"validation RMSE is no worse; {_ROWS:,} synthetic rows held in memory, one warm session; fits alone count.",
        goal=3,
        at_least=True,
    )
    with tuning(place, prepare(place, _ROWS)) as held:
        spread = held.rows.train.repartition(held.spark.sparkContext.defaultParallelism).persist()
        spread.count()
        iterations = 0
        for _ in range(rounds):
            model, gbt_s = _fit_gbt(spread)
            rmse = _rmse(held, model)
            iterations = iterations or _fewest_iterations(held, rmse)
            model, lightgbm_s = _fit_lightgbm(held, iterations)
            ours = _rmse(held, model)
            figure.add(gbt_s / lightgbm_s, {"Spark ML's GBT": gbt_s, "SynapseML's LightGBM": lightgbm_s})
        spread.unpersist()
    figure.remark = f"Validation RMSE: GBT {rmse:.4f}, LightGBM with {iterations} iterations {ours:.4f}."
    return figure


def _fewest_iterations(held: Tuning, rmse: float) -> int:
    for iterations in _ITERATIONS:
        if _rmse(held, _fit_lightgbm(held, iterations)[0]) <= rmse:
            return iterations
    raise BenchError(f"LightGBM does not come to a validation RMSE of {rmse:.4f} in {_ITERATIONS[-1]} iterations")


def _fit_gbt(rows: DataFrame) -> tuple[Transformer, float]:
    started = time.perf_counter()
    model = GBTRegressor(featuresCol=FEATURES, labelCol=LABEL, predictionCol=PREDICTION, **_GBT).fit(rows)
    return model, time.perf_counter() - started


def _fit_lightgbm(held: Tuning, iterations: int) -> tuple[Transformer, float]:
    started = time.perf_counter()
    model = held.trainer.fit(held.rows.train, {"numIterations": iterations}, "regression", classes=0, seed=42)
    return model, time.perf_counter() - started


def _rmse(held: Tuning, model: Transformer) -> float:
    scored = model.transform(held.rows.all.where(f"{SPLIT} = 'validation'"))
    return score_splits(scored, "regression", 0, "rmse")["validation_rmse"]
