"""What only XGBoost's trainer does: several workers, and classes that the rows of a fit lack."""

from __future__ import annotations

import pytest
from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F
from pyspark.testing.utils import assertDataFrameEqual

from retune.data.splits import LABEL, ROW_ID
from retune.features.base import FEATURES
from retune.spark import Slots
from retune.trainers import load_trainer
from retune.trainers.base import PREDICTION
from retune.trainers.base_cluster import EarlyStopping

TRAINER = load_trainer("xgboost_spark")


@pytest.fixture(scope="module")
def rows(spark):
    """30,000 rows of a label and a feature that tells it in part, so that more and more rounds do no good."""
    label = F.floor(F.rand(1) * 3).cast("double").alias(LABEL)
    frame = spark.range(30_000).select(F.xxhash64("id").alias(ROW_ID), label)
    held = frame.withColumn(FEATURES, array_to_vector(F.array(F.col(LABEL) + F.rand(2) * 2))).cache()
    yield held
    held.unpersist()


@pytest.mark.parametrize(("slots", "workers"), [(Slots(1, 1), 1), (Slots(2, 1), 2), (Slots(4, 4), 3)])
def test_a_worker_has_a_slot_and_ten_thousand_rows(rows, slots, workers):
    assert TRAINER.layout(rows, slots).rdd.getNumPartitions() == workers


def test_two_workers_give_the_same_model_each_time_and_stop_early(rows):
    half = F.pmod(F.col(ROW_ID), F.lit(2)) == 0
    laid = TRAINER.layout(rows, Slots(executors=1, cores=2)).cache()
    watched = EarlyStopping(laid.where(half), rounds=3)
    fits = [
        TRAINER.fit(laid.where(~half), {"n_estimators": 50, "learning_rate": 1.0}, "multiclass", 3, 1, watched)
        for _ in range(2)
    ]
    laid.unpersist()
    assert TRAINER.rounds(fits[0]) < 50
    one, other = [model.transform(rows.limit(100)).select(ROW_ID, PREDICTION) for model in fits]
    assertDataFrameEqual(one, other, rtol=0)


def test_more_partitions_than_slots_are_joined_before_the_fit(rows):
    many = rows.limit(500).repartition(7, ROW_ID)
    assert TRAINER.fit(many, {"n_estimators": 3}, "multiclass", 3, seed=1).getOrDefault("num_workers") == 2


def test_rows_that_lack_a_class_are_refused(rows):
    few = TRAINER.layout(rows.where(F.col(LABEL) < 2).limit(200), Slots(1, 1))
    with pytest.raises(ValueError, match="only 2 of 3 classes are among the rows of the fit"):
        TRAINER.fit(few, {"n_estimators": 3}, "multiclass", 3, seed=1)
