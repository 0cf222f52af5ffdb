"""Scores: equal to scikit-learn's on the same predictions, and the two ways to them equal to each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F
from sklearn import metrics

from retune.data.splits import LABEL, SPLIT
from retune.evaluation import classification_metrics, score_splits, score_test
from retune.trainers.base import PREDICTION, PROBABILITY

CLASSIFICATION = {"accuracy", "f1", "auc", "log_loss"}


def expected_regression(label, prediction):
    mse = metrics.mean_squared_error(label, prediction)
    return {
        "mse": mse,
        "rmse": math.sqrt(mse),
        "mae": metrics.mean_absolute_error(label, prediction),
        "r2": metrics.r2_score(label, prediction),
    }


def expected_classification(label, probability, classes):
    prediction, binary = probability.argmax(axis=1), classes == 2
    return {
        "accuracy": metrics.accuracy_score(label, prediction),
        "f1": metrics.f1_score(label, prediction, average="binary" if binary else "macro"),
        "auc": metrics.roc_auc_score(label, probability[:, 1] if binary else probability, multi_class="ovr"),
        "log_loss": metrics.log_loss(label, probability, labels=range(classes)),
    }


def draw_regression(seed, count):
    rng = np.random.default_rng(seed)
    label = rng.normal(1000, 5, count)
    return label, label + rng.normal(0.5, 2, count)


def draw_classification(seed, count, classes, ties):
    """Labels that follow the probabilities; with ties, the probabilities are multiples of a tenth."""
    rng = np.random.default_rng(seed)
    exact = rng.dirichlet(np.ones(classes), count)
    label = (exact.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return label, (exact * 8).round() / (exact * 8).round().sum(axis=1, keepdims=True) if ties else exact


@pytest.fixture
def scored(spark):
    def build(split, label, prediction, probability=None):
        columns = [label.astype(float).tolist(), prediction.astype(float).tolist()]
        kinds = f"{LABEL} double, {PREDICTION} double"
        if probability is None:
            return spark.createDataFrame(list(zip(*columns, strict=True)), kinds).withColumn(SPLIT, F.lit(split))
        rows = list(zip(*columns, probability.tolist(), strict=True))
        frame = spark.createDataFrame(rows, f"{kinds}, p array<double>").withColumn(SPLIT, F.lit(split))
        return frame.withColumn(PROBABILITY, array_to_vector("p")).drop("p")

    return build


def under(split, values):
    return {f"{split}_{name}": value for name, value in values.items()}


def test_regression_scores_are_those_of_scikit_learn(scored):
    train, validation = draw_regression(1, 500), draw_regression(2, 200)
    rows = scored("train", *train).unionByName(scored("validation", *validation))
    expected = under("train", expected_regression(*train)) | under("validation", expected_regression(*validation))
    assert score_splits(rows, "regression", 0, "r2") == pytest.approx(expected, rel=1e-9)
    assert score_test(scored("test", *train), "regression", 0) == pytest.approx(expected_regression(*train), rel=1e-9)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize(("problem", "classes"), [("binary", 2), ("multiclass", 2), ("multiclass", 4)])
def test_classification_scores_are_those_of_scikit_learn(scored, problem, classes, ties):
    train, validation = (draw_classification(seed, 1500, classes, ties) for seed in (1, 2))
    rows = [
        scored(split, label, probability.argmax(axis=1), probability)
        for split, (label, probability) in {"train": train, "validation": validation}.items()
    ]
    found = score_splits(rows[0].unionByName(rows[1]), problem, classes, "auc")
    expected_train, expected_validation = (expected_classification(*drawn, classes) for drawn in (train, validation))
    if ties:  # a probability of 0 where the label is: how far from it to stay is a convention
        for values in (found, expected_train, expected_validation):
            for name in [name for name in values if name.endswith("log_loss")]:
                values[name] = 0.0
    assert found == pytest.approx(under("train", expected_train) | under("validation", expected_validation), rel=1e-9)
    tested = score_test(rows[0], problem, classes)
    assert tested.keys() == CLASSIFICATION
    # SynapseML's own AUC, of binary problems, joins scores into a thousand bins.
    assert tested.pop("auc") == pytest.approx(expected_train.pop("auc"), rel=1e-4 if problem == "binary" else 1e-9)
    assert tested == pytest.approx(expected_train | ({"log_loss": tested["log_loss"]} if ties else {}), rel=1e-9)


@pytest.mark.parametrize(("problem", "classes"), [("binary", 2), ("multiclass", 3)])
def test_both_ways_to_score_agree(scored, problem, classes):
    label, probability = draw_classification(7, 2000, classes, ties=True)
    rows = scored("test", label, probability.argmax(axis=1), probability)
    by_split = score_splits(rows, problem, classes, "auc")
    assert by_split == pytest.approx(under("test", score_test(rows, problem, classes)), rel=1e-9)


def test_without_rows_of_a_class_there_is_no_auc(scored):
    probability = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = score_splits(scored("train", np.array([0, 0]), np.array([0, 1]), probability), "binary", 2, "auc")
    assert math.isnan(found["train_auc"])
    assert found["train_accuracy"] == 0.5


def test_auc_is_left_out_where_nothing_asks_for_it(scored):
    label, probability = draw_classification(7, 50, 2, ties=False)
    rows = scored("train", label, probability.argmax(axis=1), probability)
    found = score_splits(rows, "binary", 2, "f1")
    assert found.keys() == {"train_accuracy", "train_f1", "train_log_loss"}


def test_certainty_that_is_wrong_costs_much_but_not_everything(scored):
    rows = scored("train", np.array([0, 1]), np.array([0, 0]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert score_splits(rows, "binary", 2, "log_loss")["train_log_loss"] == pytest.approx(-math.log(2**-52) / 2)


def test_model_that_always_says_one_class_can_be_scored(scored):
    label, probability = np.array([0, 1, 2, 0]), np.tile([0.5, 0.3, 0.2], (4, 1))
    found = score_test(scored("test", label, probability.argmax(axis=1), probability), "multiclass", 3)
    assert found == pytest.approx(expected_classification(label, probability, 3))


def test_r2_of_a_constant_target_is_nan(scored):
    rows = scored("train", np.ones(5), np.arange(5.0))
    assert math.isnan(score_splits(rows, "regression", 0, "r2")["train_r2"])


def test_class_that_is_neither_there_nor_predicted_has_f1_of_zero():
    cells = [{"label": 0, "prediction": 0, "rows": 3, "log_loss": 0.3}]
    assert classification_metrics(cells, 3) == pytest.approx({"accuracy": 1.0, "f1": 1 / 3, "log_loss": 0.1})
