"""Features: which columns become one, what is fitted on which rows, and that models take categories as categories."""

from __future__ import annotations

import math

import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F
from pyspark.testing.utils import assertDataFrameEqual
from synapse.ml.lightgbm import LightGBMRegressor

from retune.errors import BadInput
from retune.features.base import FEATURES, Feature
from retune.features.tabular import Column, choose_columns, drop_identifiers, fit_features
from retune.features_section import TabularFeatures
from retune.stages.featurize import _refuse_infinity

KINDS = "a double, b string, c boolean, d timestamp, y double"


@pytest.fixture
def schema(spark):
    return spark.createDataFrame([], KINDS).schema


def vectors(rows):
    """The feature vectors, NaN as None so that they can be compared."""
    found = rows.select(vector_to_array(FEATURES).alias("v")).collect()
    return [[None if math.isnan(value) else value for value in row.v] for row in found]


def fit_all(rows, **features):
    columns, _ = choose_columns(rows.schema, TabularFeatures(**features), [])
    return fit_features(rows, columns)


def test_numbers_booleans_and_text_become_features_without_being_listed(schema):
    columns, left_out = choose_columns(schema, TabularFeatures(), ["y"])
    assert columns == [
        Column("a", "number", "double"),
        Column("b", "category", "string"),
        Column("c", "number", "double"),
    ]
    assert left_out == {"d": "is timestamp, neither number, text nor boolean; cast it in features.cast"}


def test_listed_columns_alone_become_features(schema):
    columns, left_out = choose_columns(schema, TabularFeatures(columns=["c", "a"]), ["y"])
    assert [column.name for column in columns] == ["a", "c"]
    assert left_out == {"b": "as the experiment says", "d": "as the experiment says"}


def test_dropped_columns_do_not(schema):
    columns, left_out = choose_columns(schema, TabularFeatures(drop=["b", "d"]), ["y"])
    assert [column.name for column in columns] == ["a", "c"]
    assert set(left_out) == {"b", "d"}


def test_cast_decides_the_kind(schema):
    cast = TabularFeatures(cast={"a": "string", "b": "double", "c": "string", "d": "double"})
    columns, left_out = choose_columns(schema, cast, ["y"])
    assert {column.name: column.kind for column in columns} == {
        "a": "category", "b": "number", "c": "category", "d": "number",
    }  # fmt: skip
    assert left_out == {}


@pytest.mark.parametrize("kind", ["array<double>", "date", "binary", "struct<n:int>"])
@pytest.mark.parametrize("wanted", ["double", "boolean"])
def test_cast_that_spark_cannot_do_is_refused(spark, kind, wanted):
    schema = spark.createDataFrame([], f"a double, z {kind}").schema
    with pytest.raises(BadInput, match=rf"^features\.cast\.z = '{wanted}': a column of {kind} can only be read as a"):
        choose_columns(schema, TabularFeatures(cast={"z": wanted}), [])


def test_listed_column_of_another_type_is_refused(schema):
    with pytest.raises(BadInput, match=r"^features\.columns: d is timestamp, neither number, text nor boolean"):
        choose_columns(schema, TabularFeatures(columns=["a", "d"]), ["y"])


def test_no_column_left_is_refused(schema):
    with pytest.raises(BadInput, match=r"^features: no column of the data can be a feature"):
        choose_columns(schema, TabularFeatures(drop=["a", "b", "c"]), ["y"])


def test_identifiers_are_left_out(spark):
    rows = spark.range(200).select(F.col("id").cast("string").alias("a b"), (F.col("id") % 5).cast("string").alias("c"))
    columns = [Column("a b", "category", "string"), Column("c", "category", "string"), Column("n", "number", "double")]
    kept, left_out = drop_identifiers(rows, columns, most=50)
    assert kept == columns[1:]
    assert left_out.keys() == {"a b"}
    assert "distinct values, more than features.max_categories = 50" in left_out["a b"]


def test_nothing_but_identifiers_is_refused(spark):
    rows = spark.range(200).select(F.col("id").cast("string").alias("a"))
    with pytest.raises(BadInput, match=r"^features: no column .*features\.max_categories = 50"):
        drop_identifiers(rows, [Column("a", "category", "string")], most=50)


def test_one_slot_a_column_in_the_order_of_the_schema(spark):
    rows = spark.createDataFrame([(True, "p", 2.5, 7), (False, "q", -1.0, 8)], "c boolean, b string, a double, n int")
    assert vectors(fit_all(rows).transform(rows)) == [[1.0, 0.0, 2.5, 7.0], [0.0, 1.0, -1.0, 8.0]]


def test_missing_numbers_and_booleans_stay_nan(spark):
    rows = spark.createDataFrame([(1.0, True), (None, None), (math.nan, False)], "a double, c boolean")
    assert vectors(fit_all(rows).transform(rows)) == [[1.0, 1.0], [None, None], [None, 0.0]]


def test_only_the_rows_fitted_on_name_categories(spark):
    train = spark.createDataFrame([("q",), ("p",), ("q",)], "b string")
    rows = spark.createDataFrame([("p",), ("q",), ("r",), (None,), ("P",), ("",)], "b string")
    assert vectors(fit_all(train).transform(rows)) == [[0.0], [1.0], [2.0], [2.0], [2.0], [2.0]]


def test_missing_and_unseen_categories_share_one_also_when_train_rows_lack_some(spark):
    train = spark.createDataFrame([("q",), (None,), ("",)], "b string")
    rows = spark.createDataFrame([("",), ("q",), (None,), ("r",)], "b string")
    assert vectors(fit_all(train).transform(rows)) == [[0.0], [1.0], [2.0], [2.0]]


def test_cast_reads_values_as_the_other_type(spark):
    rows = spark.createDataFrame([("1.5", 1, "true"), ("x", 2, None)], "a string, b int, c string")
    model = fit_all(rows, cast={"a": "double", "b": "string", "c": "boolean"})
    assert vectors(model.transform(rows)) == [[1.5, 0.0, 1.0], [None, 1.0, None]]


@pytest.mark.parametrize("kind", ["string", "double", "bigint", "boolean"])
def test_column_without_any_value_is_a_feature_that_says_nothing(spark, kind):
    rows = spark.createDataFrame([(None,), (None,)], f"a {kind}")
    assert vectors(fit_all(rows).transform(rows)) == [[0.0 if kind == "string" else None]] * 2


def test_column_names_may_have_any_characters(spark):
    kinds = "`a.b` double, `c d` string, `e``f` boolean, `größe (cm),;{}=` double, `g'h\"i` string, `select` string"
    rows = spark.createDataFrame([(1.0, "p", True, 2.0, "q", "r")], kinds)
    assert vectors(fit_all(rows).transform(rows)) == [[1.0, 0.0, 1.0, 2.0, 0.0, 0.0]]


def test_raw_columns_pass_through(numbered):
    out = fit_all(numbered).transform(numbered)
    assertDataFrameEqual(out.select(*numbered.columns), numbered)


def test_saved_and_loaded_pipeline_gives_equal_vectors(numbered, tmp_path):
    model = fit_all(numbered)
    model.write().save(str(tmp_path / "features"))
    loaded = PipelineModel.load(str(tmp_path / "features"))
    assert vectors(loaded.transform(numbered)) == vectors(model.transform(numbered))


def test_many_columns_are_no_trouble(spark):
    wide = spark.range(3).select(
        *[(F.col("id") + i).alias(f"n{i}") for i in range(300)],
        *[F.col("id").cast("string").alias(f"s{i}") for i in range(100)],
    )
    assert [len(vector) for vector in vectors(fit_all(wide).transform(wide))] == [400] * 3


def test_lightgbm_takes_categories_as_categories_after_parquet(spark, tmp_path):
    """Eight categories whose effect alternates: one split on a set of them tells all; one on an order could not."""
    raw = spark.range(800).selectExpr("char(id % 8 + 97) AS letter", "double(id % 2) AS label")
    fit_all(raw.drop("label")).transform(raw).select(FEATURES, "label").write.parquet(str(tmp_path / "rows"))
    rows = spark.read.parquet(str(tmp_path / "rows")).coalesce(1)
    one_split = {"numIterations": 1, "numLeaves": 2, "learningRate": 1.0, "minDataPerGroup": 1, "catSmooth": 0.0}
    model = LightGBMRegressor(featuresCol=FEATURES, numTasks=1, catl2=0.0, maxCatToOnehot=1, **one_split).fit(rows)
    wrong = model.transform(rows).where(F.abs(F.col("prediction") - F.col("label")) > 1e-3)
    assert wrong.isEmpty()


def test_values_that_a_library_does_not_take_are_refused_by_their_column(spark):
    rows = spark.createDataFrame([(1.0, 2.0), (float("inf"), 3.0), (None, -1e39)], "a double, `b c` double")
    with pytest.raises(BadInput, match=r"column a has 1 values that are infinite or beyond ±3.4e\+38, which sklearn"):
        _refuse_infinity(rows, [Feature("a", "number", "double")], "sklearn")
    with pytest.raises(BadInput, match=r"column b c has 1 values"):
        _refuse_infinity(rows, [Feature("b c", "number", "double")], "sklearn")
    _refuse_infinity(rows.limit(1), [Feature("a", "number", "double"), Feature("b c", "number", "double")], "sklearn")
    _refuse_infinity(rows, [Feature("a", "category", "string", ["x"])], "sklearn")
