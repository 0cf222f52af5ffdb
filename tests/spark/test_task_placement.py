"""Single-machine trials within Spark tasks: the rows' way there, warm workers, limits, and the whole model."""

from __future__ import annotations

import os
import time

import numpy as np
import pandas as pd
import pytest
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import functions as F
from scipy import sparse

from retune.data.splits import LABEL, ROW_ID
from retune.data.table import Table, open_table, pack_features, stack_features, write_table
from retune.features import tabular
from retune.features.base import BAG, FEATURES, Feature
from retune.features_section import TabularFeatures
from retune.placements import task_rows
from retune.placements.task import choose_parallel
from retune.placements.task_model import TaskModel, raw_features
from retune.placements.task_rows import open_shared, run_in_task, shared

VECTORS = "transform(array(0, 1, 2, 3), i -> if(rand(i) < 0.5, 0D, rand(i)))"


def collect(spark, rows, tmp_path, sparsely=False) -> Table:
    """Write rows as featurize does and collect them as tune does."""
    rows.write.parquet(f"{tmp_path}/rows")
    known = spark.read.parquet(f"{tmp_path}/rows").schema
    for field in known:
        if field.name == FEATURES:
            field.dataType = task_rows._VECTOR
    return task_rows._collect(spark.read.schema(known).parquet(f"{tmp_path}/rows"), (1,), sparsely)


@pytest.fixture
def planted(spark):
    return spark.range(500).select(
        F.expr("xxhash64(id)").alias(ROW_ID),
        array_to_vector(F.array(F.rand(1), F.col("id") % 3 * 1.0, F.lit(float("nan")))).alias(FEATURES),
        (F.col("id") * 1.0).alias(LABEL),
        F.when(F.col("id") % 4 == 0, 0).otherwise(-1).alias("retune_part"),
    )


def test_rows_come_as_spark_has_them_in_an_order_of_their_own(spark, planted, tmp_path):
    table = collect(spark, planted.orderBy(F.rand(3)).repartition(5), tmp_path)
    wanted = planted.orderBy("retune_part", ROW_ID).withColumn(FEATURES, vector_to_array(FEATURES)).toPandas()
    np.testing.assert_array_equal(table.features, np.stack(wanted[FEATURES].to_numpy()))
    np.testing.assert_array_equal(table.labels, wanted[LABEL])
    train, validation = table.split(0)
    assert len(train.labels) == 375
    assert len(validation.labels) == 125
    assert train.features.base is not None  # a view, no copy


def test_sparse_vectors_stay_sparse(spark, tmp_path):
    rows = spark.range(40).select(
        F.expr("xxhash64(id)").alias(ROW_ID), (F.col("id") * 1.0).alias(LABEL), F.lit(-1).alias("retune_part"), "id"
    )
    from pyspark.ml.feature import OneHotEncoder

    encoded = OneHotEncoder(inputCol="id", outputCol=FEATURES, dropLast=False).fit(rows).transform(rows).drop("id")
    table = collect(spark, encoded, tmp_path, sparsely=True)
    assert sparse.issparse(table.features)
    assert table.features.shape == (40, 40)
    np.testing.assert_array_equal(table.features.toarray().argmax(axis=1), table.labels)


def test_dense_and_sparse_vectors_may_mix():
    blocks = pack_features(np.array([np.nan, 3.0]), [None, [1]], [[1.0, 2.0, 3.0], [5.0]])
    np.testing.assert_array_equal(stack_features([blocks], sparsely=False), [[1, 2, 3], [0, 5, 0]])


@pytest.mark.parametrize("features", [np.eye(4), sparse.csr_matrix(np.eye(4))], ids=["dense", "sparse"])
def test_a_table_is_read_as_it_was_written(tmp_path, features):
    parts = np.array([-1, -1, 0, 0], np.int32)
    files = write_table(Table(features, np.arange(4.0), parts, (1, 2)), tmp_path, "rows")
    table = open_table(files, str(tmp_path))
    np.testing.assert_array_equal(sparse.csr_matrix(table.features).toarray(), np.eye(4))
    assert table.categories == (1, 2)
    assert [len(part.labels) for part in table.split(0)] == [2, 2]


def tell_process(files):
    return os.getpid(), float(open_shared(files).features.sum()), time.time()


def test_trials_share_the_rows_and_keep_their_python_worker(spark):
    with shared(spark, Table(np.ones((10, 2)), np.zeros(10), np.zeros(10, np.int32)), "warm") as files:
        told = [run_in_task(spark, tell_process, files) for _ in range(5)]
    assert {total for _, total, _ in told} == {20.0}
    assert len({process for process, _, _ in told}) <= 2  # a slot's each; a new one a trial would be five


@pytest.mark.parametrize(("wanted", "slots", "parallel"), [(None, 8, 8), (3, 8, 3), (9, 8, 8), (None, 500, 128)])
def test_parallel_trials_are_capped_to_the_slots(caplog, wanted, slots, parallel):
    assert choose_parallel(wanted, slots, fill=slots) == parallel
    assert ("capped" in caplog.text) == bool(wanted and wanted > parallel)


def test_the_model_reads_raw_rows_as_featurize_did(spark):
    raw = spark.createDataFrame(
        [(1.5, "red", True, 3, "2"), (None, "blue", False, 4, "x"), (2.5, None, None, None, None), (0.5, "red", True, 3, "1")],  # noqa: E501
        "size double, color string, flag boolean, count bigint, code string",
    )  # fmt: skip
    experiment_features = {"cast": {"count": "string", "code": "double"}}
    fitted = tabular.fit(raw.limit(3), TabularFeatures.model_validate(experiment_features), [])
    made = raw_features(fitted.features)
    wanted = np.stack(fitted.transform(raw).select(vector_to_array(FEATURES).alias("f")).toPandas()["f"].to_numpy())
    np.testing.assert_array_equal(made.transform(raw.toPandas()), wanted)


@pytest.mark.parametrize("classes", [[], ["no", "yes"]], ids=["regression", "classes"])
def test_a_whole_model_scores_on_spark(spark, classes):
    from sklearn.pipeline import Pipeline
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    raw = spark.createDataFrame([(float(i % 2), i) for i in range(20)], "size double, id int")
    features = raw_features([Feature("size", "number", "double")])
    frame = raw.toPandas()
    labels = np.array(["no", "yes"])[frame["size"].astype(int)] if classes else frame["size"] * 10
    tree = (DecisionTreeClassifier if classes else DecisionTreeRegressor)().fit(features.transform(frame), labels)
    out = TaskModel(Pipeline([("features", features), ("model", tree)]), classes).transform(raw)
    wanted = frame["size"] * (1 if classes else 10)
    got = out.orderBy("id").toPandas()
    pd.testing.assert_series_equal(got["retune_prediction"], wanted, check_names=False)
    assert set(out.columns) - set(raw.columns) == {"retune_prediction", *(["retune_probability"] if classes else [])}


BAGS = [Feature("app", "bag", BAG, ["-5", "12"]), Feature("brand", "bag", BAG, ["OPPO", "小米"])]


def test_the_model_makes_sparse_rows_of_bags_without_names_it_does_not_know():
    raw = pd.DataFrame({"brand": [{"小米": 1.0}, {}, {"HTC": 1.0}], "app": [{"12": 0.25, "7": 0.75}, {"-5": 1.0}, {}]})
    made = raw_features(BAGS).transform(raw)
    assert sparse.issparse(made)
    np.testing.assert_array_equal(made.toarray(), [[0, 0.25, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    pairs = raw.map(lambda bag: list(bag.items()))  # as pandas has maps that it reads from Parquet itself
    assert (raw_features(BAGS).transform(pairs) != made).nnz == 0


def test_a_whole_model_scores_bags_on_spark_as_it_does_in_pandas(spark):
    from sklearn.pipeline import Pipeline
    from xgboost import XGBRegressor

    cells = [({"12": i / 20, "9": 1.0} if i % 3 else {}, {"小米": 1.0} if i % 2 else {}, i) for i in range(20)]
    raw = spark.createDataFrame(cells, f"app {BAG}, brand {BAG}, id int")
    frame, features = raw.toPandas(), raw_features(BAGS)
    tree = XGBRegressor(n_estimators=5).fit(features.transform(frame), frame["id"])
    model = Pipeline([("features", features), ("model", tree)])
    got = TaskModel(model, []).transform(raw).orderBy("id").toPandas()["retune_prediction"]
    np.testing.assert_allclose(got, model.predict(frame), rtol=1e-6)
    assert got.nunique() > 4


def test_a_table_of_columns_is_fitted_as_it_is_scored_though_most_are_zero(spark, tmp_path):
    """XGBoost takes what a sparse matrix leaves out for missing, while the whole model gives it zeros."""
    rows = spark.range(40).select(
        F.expr("xxhash64(id)").alias(ROW_ID), F.lit(0.0).alias(LABEL), F.lit(-1).alias("retune_part"),
        (F.col("id") % 8 == 0).cast("double").alias("a"), F.lit(0.0).alias("b"), F.lit(0.0).alias("c"),
    )  # fmt: skip
    fitted = tabular.fit(rows, TabularFeatures(columns=["a", "b", "c"]), [])
    table = collect(spark, fitted.transform(rows), tmp_path)
    assert isinstance(table.features, np.ndarray)
    assert table.features.sum() == 5
