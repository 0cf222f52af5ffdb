"""Whole models in MLflow: each trainer's is loaded where there is no retune, and predicts the same from raw rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version

import mlflow
import numpy as np
import pandas as pd
import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import functions as F
from sklearn.pipeline import Pipeline

from retune.data.splits import LABEL, ROW_ID
from retune.data.table import Table
from retune.experiment import TRAINERS
from retune.features.base import Feature
from retune.features.tabular import Column, fit_features
from retune.pipeline_reader import load_pipeline
from retune.placements.rows import laid_out
from retune.placements.spark_model import whole_model
from retune.placements.task_model import raw_features
from retune.placements.task_trial import spell
from retune.trainers import load_trainer

CLUSTER = [name for name in TRAINERS if load_trainer(name).placement == "cluster"]
COLUMNS = [Column("x", "number", "double"), Column("color", "category", "string")]
CLASSES = [False, True]
TASK = ("lightgbm", "sklearn", "xgboost")  # Keras' is loaded by tests/jobs/test_keras.py
QUICK = {"spark_gbt": {"maxIter": 4}, "xgboost_spark": {"n_estimators": 10}}
LOAD_TASK = """
import json, sys, mlflow, pandas as pd
logged, rows = sys.argv[1:]
rows = pd.read_parquet(rows)
for name, folder in json.loads(logged).items():
    for flavor in (mlflow.pyfunc, mlflow.sklearn):
        predicted = flavor.load_model(folder).predict(rows[["x", "color"]])
        assert list(predicted) == list(rows["prediction " + name]), (name, flavor.__name__, predicted)
assert "retune" not in sys.modules
print("loaded twice each:", len(json.loads(logged)))
"""
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
    assert load_elsewhere(LOAD, logged, rows, tmp_path, str(tmp_path / "loaded")) == len(logged)


def test_models_of_single_machine_trainers_predict_in_a_fresh_process(source, tmp_path):
    rows, logged = source.toPandas(), {}
    made = raw_features(
        [Feature("x", "number", "double"), Feature("color", "category", "string", ["blue", "green", "red"])]
    )
    unknown = rows.head(20)[["x", "color"]]
    unknown.loc[3, "color"] = "never seen"
    values = made.transform(rows)
    table = Table(values, rows["wet"].to_numpy(float), np.full(len(rows), -1, np.int32), categories=(1,))
    for name in TASK:
        fixed = {"estimator": "sklearn.tree.DecisionTreeClassifier"} if name == "sklearn" else {"n_estimators": 10}
        model = load_trainer(name).fit(table, fixed, "binary", seed=1, threads=1)
        whole, logged[name] = Pipeline([("features", made), ("model", spell(model, CLASSES))]), str(tmp_path / name)
        needed = [f"{package}=={version(package)}" for package in load_trainer(name).requirements]
        mlflow.sklearn.save_model(whole, logged[name], pip_requirements=needed, serialization_format="cloudpickle")
        assert (whole.predict(rows) == rows["wet"]).mean() > 0.9
        unknown[f"prediction {name}"] = whole.predict(unknown)
    assert load_elsewhere(LOAD_TASK, logged, unknown, tmp_path) == len(TASK)


def load_elsewhere(script, logged, rows, folder, *further):
    """Run a script in a process of its own, without retune, on models and rows; return how many models it loaded."""
    rows.to_parquet(folder / "rows.parquet")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    arguments = [sys.executable, "-c", script, json.dumps(logged), str(folder / "rows.parquet"), *further]
    done = subprocess.run(arguments, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1].removeprefix("loaded twice each: "))


def learn(source, name):
    """Fit features and the trainer, and return the whole model, a binary one."""
    features = fit_features(source, COLUMNS)
    label = F.col("wet").cast("double").alias(LABEL)
    rows = features.transform(source.withColumn(ROW_ID, F.expr("xxhash64(x, color)"))).withColumn(LABEL, label)
    with laid_out(rows, load_trainer(name)) as fit_rows:
        model = load_trainer(name).fit(fit_rows, QUICK.get(name, {}), "binary", len(CLASSES), seed=1)
    return whole_model(features, model, CLASSES)


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
