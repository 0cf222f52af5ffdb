"""Spark's gradient-boosted trees: one after another, each fitted on the cluster."""

from __future__ import annotations

from pyspark.ml.classification import GBTClassifier
from pyspark.ml.regression import GBTRegressor

from retune.trainers._spark_ml import SparkTrees


class SparkGBT(SparkTrees):
    """`GBTRegressor` and `GBTClassifier`, which knows two classes only."""

    name = "spark_gbt"
    problems = ("regression", "binary")
    regressor = GBTRegressor
    classifier = GBTClassifier


TRAINER = SparkGBT()
