"""What only the trainers of Spark's trees do: missing values, and bins for categories."""

from __future__ import annotations

import pytest
from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F

from retune.data.splits import LABEL, ROW_ID
from retune.features.base import FEATURES
from retune.trainers import load_trainer
from retune.trainers.base import PREDICTION

NAMES = ["spark_gbt", "spark_random_forest"]
WHOLE = {"spark_gbt": {"maxIter": 3, "stepSize": 1.0}, "spark_random_forest": {"numTrees": 3}}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("missing", ["NaN", "Infinity"])
def test_a_missing_number_counts_as_larger_than_all_others(spark, name, missing):
    x = F.when(F.col("id") % 3 == 0, F.lit(float(missing))).otherwise(F.rand(1) * 1000)
    rows = spark.range(300).select(F.col("id").alias(ROW_ID), x.alias("x"), (F.col("id") % 3 == 0).alias("missing"))
    rows = rows.withColumn(LABEL, F.col("missing").cast("double")).withColumn(FEATURES, array_to_vector(F.array("x")))
    model = load_trainer(name).fit(rows.cache(), WHOLE[name], "regression", 0, seed=1)
    assert model.transform(rows).where(F.abs(F.col(PREDICTION) - F.col(LABEL)) > 0.01).isEmpty()
    largest = rows.limit(1).withColumn(FEATURES, array_to_vector(F.array(F.lit(999_999.0))))
    assert model.transform(largest).first()[PREDICTION] == pytest.approx(0, abs=0.01)
    rows.unpersist()


@pytest.mark.parametrize("name", NAMES)
def test_bins_suffice_for_the_categories_unless_the_user_sets_them(spark, name):
    slots = {"nominal": [{"idx": 0, "name": "x", "vals": [str(i) for i in range(50)]}]}
    rows = spark.range(200).select(
        F.col("id").alias(ROW_ID),
        (F.col("id") % 2).cast("double").alias(LABEL),
        array_to_vector(F.array((F.col("id") % 50).cast("double"))).alias(FEATURES),
    )
    rows = rows.withMetadata(FEATURES, {"ml_attr": {"attrs": slots, "num_attrs": 1}})
    model = load_trainer(name).fit(rows, WHOLE[name], "binary", 2, seed=1)
    assert model.getMaxBins() == 50
    with pytest.raises(Exception, match="maxBins"):
        load_trainer(name).fit(rows, WHOLE[name] | {"maxBins": 40}, "binary", 2, seed=1)
