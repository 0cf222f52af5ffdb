"""Spark's random forests, fitted on the cluster."""

from __future__ import annotations

from pyspark.ml.classification import RandomForestClassifier
from pyspark.ml.regression import RandomForestRegressor

from retune.trainers._spark_ml import SparkTrees


class SparkRandomForest(SparkTrees):
    """`RandomForestRegressor` and `RandomForestClassifier`."""

    name = "spark_random_forest"
    regressor = RandomForestRegressor
    classifier = RandomForestClassifier


TRAINER = SparkRandomForest()
