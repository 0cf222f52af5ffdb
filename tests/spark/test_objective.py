"""A trial by cross-validation, and by a function of the user's own."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F

from retune.data.folds import assign_folds
from retune.data.splits import LABEL, ROW_ID, SPLIT
from retune.features.base import FEATURES
from retune.placements.cluster_trial import FitAndScore, OwnFunction, Rows
from retune.placements.objective import summarize_folds
from retune.search.trial import Attempt, Pruned, Trial
from retune.search_section import CrossValidation
from retune.trainers import load_trainer

FOLDS = CrossValidation(folds=3, prune=True)
SETTING = {"numLeaves": 5}


@pytest.fixture(scope="module")
def rows(spark):
    drawn = spark.range(300).selectExpr(f"xxhash64(id) AS {ROW_ID}", "rand(1) AS a", "rand(2) AS b")
    labelled = drawn.select(
        ROW_ID,
        array_to_vector(F.array("a", "b")).alias(FEATURES),
        (F.col("a") * 3 - F.col("b")).alias(LABEL),
        F.lit("train").alias(SPLIT),
    )
    held = assign_folds(labelled, FOLDS, 0, 1).coalesce(1).cache()
    return Rows(held, held, held, held.count(), 200, 0)


@pytest.fixture
def objective(build_experiment, rows):
    search = build_experiment().search.model_dump() | {
        "validation": FOLDS.model_dump(), "constraints": ["model_size_mb <= 1"], "early_stopping_rounds": 3
    }  # fmt: skip
    model = {"trainer": "synapseml_lightgbm", "fixed": {"numIterations": 40, "minDataInLeaf": 5}}
    experiment = build_experiment(search=search, model=model)
    return FitAndScore(experiment, load_trainer("synapseml_lightgbm"), rows)


def test_the_score_is_the_mean_over_folds_with_its_deviation(objective):
    metrics = objective(SETTING, Attempt())
    folds = [metrics[f"fold_{fold}_validation_r2"] for fold in range(3)]
    assert metrics["validation_r2"] == pytest.approx(statistics.fmean(folds))
    assert metrics["validation_r2_std"] == pytest.approx(statistics.stdev(folds))
    assert min(folds) > 0.8
    assert len(set(folds)) == 3
    assert 0 < metrics["model_size_mb"] < 1
    assert 0 < metrics["rounds"] <= 40
    assert {"train_r2", "fit_s", "score_ms_per_row"} <= metrics.keys()


@pytest.mark.parametrize(("others", "pruned"), [(0.999999, True), (-1.0, False)])
def test_a_trial_worse_than_the_median_after_the_same_folds_is_pruned(objective, others, pruned):
    earlier = [
        Trial(n, SETTING, "", -others, {f"fold_{fold}_validation_r2": others for fold in range(3)}) for n in range(5)
    ]
    if not pruned:
        assert "validation_r2" in objective(SETTING, Attempt(earlier=earlier))
        return
    with pytest.raises(Pruned, match="after 2 folds is worse than") as raised:
        objective(SETTING, Attempt(earlier=earlier))
    assert sorted(raised.value.metrics) == ["fold_0_validation_r2", "fold_1_validation_r2"]


def test_a_mean_over_folds_with_one_that_is_not_finite_is_not_finite():
    summary = summarize_folds([{"validation_r2": 1.0}, {"validation_r2": float("nan")}])
    assert not np.isfinite(summary["validation_r2"])


@pytest.mark.parametrize("returned", [0.25, np.float32(0.25), {"loss": 0.25, "status": "ok"}], ids=str)
def test_an_own_function_returns_a_loss(build_experiment, rows, returned):
    metrics = OwnFunction(lambda parameters, given: returned, build_experiment(), rows)(SETTING, Attempt())
    assert metrics == {"validation_r2": -0.25}


def test_an_own_function_gets_parameters_and_rows_and_may_log_more(build_experiment, rows):
    def own(parameters, given):
        return {"loss": 0.5, "seen": given.all.count(), "leaves": parameters["numLeaves"]}

    metrics = OwnFunction(own, build_experiment(), rows)(SETTING, Attempt())
    assert metrics == {"validation_r2": -0.5, "seen": 300, "leaves": 5}


@pytest.mark.parametrize(
    ("returned", "message"),
    [(None, "returned None, not a loss"), ({"status": "fail"}, "said 'fail'"), ({"seen": 1}, "not a loss")],
)
def test_an_own_function_without_a_loss_fails_its_trial(build_experiment, rows, returned, message):
    with pytest.raises(ValueError, match=message):
        OwnFunction(lambda parameters, given: returned, build_experiment(), rows)(SETTING, Attempt())
