"""Whole models in MLflow: each trainer's is loaded where there is no retune, and predicts the same from raw rows."""

from __future__ import annotations

import json
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
import json, sys, mlflow, pandas as pd
logged, rows, folder = sys.argv[1:]
rows = pd.read_parquet(rows)
raw = rows[["x", "color"]]
for name, uri in json.loads(logged).items():
    expected = list(rows["prediction " + name])
    by_pyfunc = mlflow.pyfunc.load_model(uri).predict(raw)
    assert list(by_pyfunc) == expected, (name, by_pyfunc)
    by_spark = mlflow.spark.load_model(uri, dfs_tmpdir=folder)
    from pyspark.sql import SparkSession
    frame = SparkSession.getActiveSession().createDataFrame(raw.astype({"color": str}))
    predicted = [row.prediction for row in by_spark.transform(frame).select("prediction").collect()]
    assert predicted == expected, (name, predicted)
assert "retune" not in sys.modules
print("loaded twice each:", len(json.loads(logged)))
"""


@pytest.fixture
def source(spark):
    """300 rows of `x` (double, some missing), `color` (text) and what is to be told from them, `wet`."""
    color = "element_at(array('red', 'green', 'blue'), int(id % 3) + 1) AS color"
    frame = spark.range(300).selectExpr("if(id % 7 = 0, double('NaN'), rand(1)) AS x", color)
    return frame.withColumn("y", F.nanvl("x", F.lit(0.5)) * 3 + F.length("color")).withColumn("wet", F.col("y") > 5.5)


@pytest.mark.parametrize("name", CLUSTER)
def test_a_whole_model_is_written_and_read(source, tmp_path, name):
    model = learn(source, name)
    assert not any(isinstance(stage, PipelineModel) for stage in model.stages)
    model.write().save(f"{tmp_path}/model")
    again = load_pipeline(f"{tmp_path}/model").transform(source).toPandas()
    expected = model.transform(source).toPandas()
    assert list(again.columns) == list(expected.columns)
    assert list(again["prediction"]) == list(expected["prediction"])
    assert expected["prediction"].nunique() > 1


def test_logged_models_predict_in_a_fresh_process(source, tmp_path):
    """SynapseML's is logged and loaded by the chain of jobs, in tests/jobs."""
    rows = source.drop("y", "wet").limit(20).toPandas()
    rows.loc[3, "color"] = "never seen"
    frame = source.sparkSession.createDataFrame(rows.astype({"color": str}))
    logged = {}
    for name in CLUSTER:
        if name != "synapseml_lightgbm":
            model = learn(source, name)
            rows[f"prediction {name}"] = pd.Series([row.prediction for row in model.transform(frame).collect()])
            logged[name] = log(model, load_trainer(name).requirements, tmp_path)
    rows.to_parquet(tmp_path / "rows.parquet")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/mlflow.db"
    arguments = [
        sys.executable,
        "-c",
        LOAD,
        json.dumps(logged),
        str(tmp_path / "rows.parquet"),
        str(tmp_path / "loaded"),
    ]
    done = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"loaded twice each: {len(logged)}"


def learn(source, name):
    """Fit features and the trainer, and return the whole model, a binary one."""
    classes = [False, True]
    columns = [Column("x", "number", "double"), Column("color", "category", "string")]
    features = fit_features(source, columns)
    label = F.col("wet").cast("double").alias(LABEL)
    rows = features.transform(source.withColumn(ROW_ID, F.expr("xxhash64(x, color)"))).withColumn(LABEL, label)
    with laid_out(rows, load_trainer(name)) as fit_rows:
        model = load_trainer(name).fit(fit_rows, QUICK.get(name, {}), "binary", len(classes), seed=1)
    return whole_model(features, model, classes)


def log(model, packages, folder):
    """Log into MLflow's SQLite store below `folder`; return the model's URI."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    requirements = [f"{package}=={version(package)}" for package in packages]
    try:
        found = mlflow.get_experiment_by_name("models")
        experiment = found.experiment_id if found else mlflow.create_experiment("models", f"file://{folder}/artifacts")
        with mlflow.start_run(experiment_id=experiment):
            info = mlflow.spark.log_model(model, "model", pip_requirements=requirements, dfs_tmpdir=f"{folder}/saved")
    finally:
        mlflow.set_tracking_uri(None)
    return info.model_uri
