"""Whole models in MLflow: each trainer's is loaded where there is no retune, and predicts the same from raw rows."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

import mlflow
import pandas as pd
import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import functions as F

from retune.data.splits import LABEL, ROW_ID
from retune.experiment import TRAINERS
from retune.features.tabular import Column, fit_features
from retune.pipeline_reader import load_pipeline
from retune.placements.rows import laid_out
from retune.placements.spark_model import whole_model
from retune.trainers import load_trainer

CLUSTER = [name for name in TRAINERS if load_trainer(name).placement == "cluster"]
QUICK = {"spark_gbt": {"maxIter": 4}, "xgboost_spark": {"n_estimators": 10}}
LOAD = """
import sys, mlflow, pandas as pd
uri, rows, folder = sys.argv[1:]
rows = pd.read_parquet(rows)
by_pyfunc = mlflow.pyfunc.load_model(uri).predict(rows.drop(columns="prediction"))
assert list(by_pyfunc) == list(rows["prediction"]), by_pyfunc
by_spark = mlflow.spark.load_model(uri, dfs_tmpdir=folder)
from pyspark.sql import SparkSession
frame = SparkSession.getActiveSession().createDataFrame(rows.drop(columns="prediction").astype({"color": str}))
predicted = [row.prediction for row in by_spark.transform(frame).select("prediction").collect()]
assert predicted == list(rows["prediction"]), predicted
assert "retune" not in sys.modules
print("both loaded")
"""


@pytest.fixture
def source(spark):
    """300 rows of `x` (double, some missing), `color` (text) and what is to be told from them, `wet` and `y`."""
    color = "element_at(array('red', 'green', 'blue'), int(id % 3) + 1) AS color"
    frame = spark.range(300).selectExpr("if(id % 7 = 0, double('NaN'), rand(1)) AS x", color)
    return frame.withColumn("y", F.nanvl("x", F.lit(0.5)) * 3 + F.length("color")).withColumn("wet", F.col("y") > 5.5)


@pytest.mark.parametrize("name", CLUSTER)
@pytest.mark.parametrize("problem", ["regression", "binary"])
def test_a_whole_model_is_written_and_read(source, tmp_path, name, problem):
    model = learn(source, name, problem)
    assert not any(isinstance(stage, PipelineModel) for stage in model.stages)
    model.write().save(f"{tmp_path}/model")
    again = load_pipeline(f"{tmp_path}/model").transform(source).toPandas()
    expected = model.transform(source).toPandas()
    assert list(again.columns) == list(expected.columns)
    assert list(again["prediction"]) == list(expected["prediction"])
    assert expected["prediction"].nunique() > 1


@pytest.mark.parametrize("name", [name for name in CLUSTER if name != "synapseml_lightgbm"])
def test_a_logged_model_predicts_in_a_fresh_process(source, tmp_path, name):
    """SynapseML's is logged and loaded by the chain of jobs, in tests/jobs."""
    trainer, model = load_trainer(name), learn(source, name, "binary")
    rows = source.drop("y", "wet").limit(20).toPandas()
    rows.loc[3, "color"] = "never seen"
    frame = source.sparkSession.createDataFrame(rows.astype({"color": str}))
    rows["prediction"] = pd.Series([row.prediction for row in model.transform(frame).collect()])
    rows.to_parquet(tmp_path / "rows.parquet")
    uri = log(model, [f"{package}=={version(package)}" for package in trainer.requirements], tmp_path)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/mlflow.db"
    arguments = [sys.executable, "-c", LOAD, uri, str(tmp_path / "rows.parquet"), str(tmp_path / "loaded")]
    done = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "both loaded"


def learn(source, name, problem):
    """Fit features and the trainer, and return the whole model."""
    classes = [False, True] if problem == "binary" else []
    columns = [Column("x", "number", "double"), Column("color", "category", "string")]
    features = fit_features(source, columns)
    label = F.col("wet" if classes else "y").cast("double").alias(LABEL)
    rows = features.transform(source.withColumn(ROW_ID, F.expr("xxhash64(x, color)"))).withColumn(LABEL, label)
    with laid_out(rows, load_trainer(name)) as fit_rows:
        model = load_trainer(name).fit(fit_rows, QUICK.get(name, {}), problem, len(classes), seed=1)
    return whole_model(features, model, classes)


def log(model, requirements, folder):
    """Log into MLflow's SQLite store below `folder`; return the model's URI."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    try:
        experiment = mlflow.create_experiment("models", artifact_location=f"file://{folder}/artifacts")
        with mlflow.start_run(experiment_id=experiment):
            info = mlflow.spark.log_model(model, "model", pip_requirements=requirements, dfs_tmpdir=f"{folder}/saved")
    finally:
        mlflow.set_tracking_uri(None)
    return info.model_uri
