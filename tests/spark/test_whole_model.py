"""The whole way in one process: raw rows become a saved model that takes raw rows and gives labels as the data do."""

from __future__ import annotations

import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from retune.data.profile import check_columns, prepare_target, profile_rows
from retune.data.splits import LABEL, ROW_ID, SPLIT, add_label, assign_splits, check_splits
from retune.experiment import Experiment
from retune.features.base import FEATURES
from retune.features.tabular import choose_columns, drop_identifiers, fit_features
from retune.placements.rows import laid_out
from retune.placements.spark_model import whole_model
from retune.trainers import load_trainer

PARAMETERS = {"numIterations": 5, "minDataInLeaf": 2, "learningRate": 0.5}


def learn(raw: DataFrame, experiment: Experiment, folder: str) -> PipelineModel:
    """Do what the five stages do, and return the model as read back."""
    check_columns(raw, experiment)
    prepared = prepare_target(raw, experiment).cache()
    classes = profile_rows(prepared, 0, experiment)["classes"]
    target = experiment.data.target
    rows = add_label(assign_splits(prepared, experiment.split), target, classes).cache()
    check_splits(rows, classes)
    train = rows.where(F.col(SPLIT) == "train")
    columns, _ = choose_columns(rows.schema, experiment.features, [target, SPLIT, LABEL, ROW_ID])
    columns, _ = drop_identifiers(train, columns, experiment.features.max_categories)
    features, trainer = fit_features(train, columns), load_trainer(experiment.model.trainer)
    features.transform(rows).select(FEATURES, LABEL, ROW_ID).write.parquet(f"{folder}/rows")
    with laid_out(rows.sparkSession.read.parquet(f"{folder}/rows"), trainer) as fit_rows:
        model = trainer.fit(fit_rows, PARAMETERS, experiment.problem, len(classes), seed=1)
    whole_model(features, model, classes).write().save(f"{folder}/model")
    return PipelineModel.load(f"{folder}/model")


@pytest.fixture
def source(spark):
    """300 rows of `x` (double, 4 values), `color` (text) and `id`, on which `y` is to be put."""
    return spark.range(300).selectExpr(
        "double(id % 4) AS x",
        "element_at(array('red', 'green', NULL), int(id % 3) + 1) AS color",
        "rand(1) AS noise",
        "id",
    )


def put_labels(source: DataFrame, labels: list[object], kind: str) -> DataFrame:
    choices = F.array(*[F.lit(label).cast(kind) for label in labels])
    return source.withColumn("y", F.element_at(choices, (F.col("x") % len(labels) + 1).cast("int")))


@pytest.mark.parametrize(
    ("labels", "kind", "problem"),
    [
        (["yes", "no"], "string", "binary"),
        (["true", "false"], "string", "binary"),
        ([" a", "a.b", "1.0", "ü\"'\\,"], "string", "multiclass"),
        ([-1, 1], "bigint", "binary"),
        ([2**40, -(2**40), 0], "bigint", "multiclass"),
        ([True, False], "boolean", "binary"),
    ],
    ids=str,
)
def test_classes_come_out_as_the_data_spell_them(source, build_experiment, tmp_path, labels, kind, problem):
    raw = put_labels(source, labels, kind)
    model = learn(raw.drop("id"), build_experiment(problem), str(tmp_path))
    out = model.transform(raw.drop("y")).join(raw.select("id", "y"), "id", how="inner")
    assert out.schema["prediction"].dataType.simpleString() == kind
    assert out.where("prediction <=> y").count() == 300


def test_whole_numbers_read_as_double_come_out_as_whole_numbers(source, build_experiment, tmp_path):
    raw = put_labels(source, [1.0, 2.0], "double")
    out = learn(raw, build_experiment("binary"), str(tmp_path)).transform(raw)
    assert {type(row.prediction) for row in out.select("prediction").distinct().collect()} == {int}


def test_regression_gives_a_number_for_any_row(source, build_experiment, tmp_path):
    model = learn(source.withColumn("y", F.col("x") * 10).drop("id"), build_experiment(), str(tmp_path))
    raw = source.sparkSession.createDataFrame(
        [(3.0, "red", 0.5), (3.0, "unseen", None), (3.0, None, float("nan"))], "x double, color string, noise double"
    )
    assert [row.prediction for row in model.transform(raw).collect()] == pytest.approx([30] * 3, abs=3)


def test_columns_of_other_types_are_no_obstacle(source, build_experiment, tmp_path):
    raw = source.drop("id").selectExpr(
        "*",
        "x * 10 AS y",
        "timestamp'2026-01-01 10:00:00' AS moment",
        "timestamp_ntz'2026-01-01 10:00:00' AS local_moment",
        "date'2026-01-01' AS day",
        "interval 1 day AS span",
        "array(x) AS list",
        "struct(x, color) AS pair",
        "binary('ab') AS bytes",
        "cast(x AS decimal(10, 2)) AS exact",
        "cast(NULL AS double) AS no_number",
        "cast(NULL AS string) AS no_text",
        "1 AS constant",
    )
    out = learn(raw, build_experiment(), str(tmp_path)).transform(raw)
    assert out.where("abs(prediction - y) < 3").count() == 300


def test_data_that_tell_nothing_give_a_model_all_the_same(source, build_experiment, tmp_path):
    raw = source.selectExpr("1.0D AS constant", "cast(NULL AS string) AS nothing", "id AS y")
    out = learn(raw, build_experiment(features={"columns": ["constant", "nothing"]}), str(tmp_path)).transform(raw)
    assert out.select("prediction").distinct().count() == 1


def test_column_names_may_have_any_characters(source, build_experiment, tmp_path):
    raw = source.selectExpr("x AS `a.b c`", "color AS `e``f\"'`", "noise AS `größe (cm),;{}=`", "x * 10 AS `y (€).1`")
    data = {"source": "file", "path": "rows.parquet", "target": "y (€).1"}
    experiment = build_experiment(data=data, split={"key": ["a.b c", "größe (cm),;{}="]})
    out = learn(raw, experiment, str(tmp_path)).transform(raw.drop("y (€).1"))
    assert out.count() == out.where("prediction IS NOT NULL").count() == 300
