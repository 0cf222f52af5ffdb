"""TalkingData by real jobs, on tables made up at a small shape: the planted signal is found, and the model travels."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pandas as pd
import pytest
from jobs.conftest import ROOT, Jobs

from retune.features_section import FEATURE_SETS

EXPERIMENT = """\
name: talkingdata
data:
  source: file
  target: group
  tables:
    gender_age_train: gender_age_train.csv
    phone_brand_device_model: phone_brand_device_model.csv
    events: events.csv
    app_events: app_events.csv
    app_labels: app_labels.csv
    label_categories: label_categories.csv
problem: multiclass
split: {validation: 0.15, test: 0.25, key: [device_id]}
features: {pipeline: talkingdata}
model:
  trainer: xgboost
  fixed: {learning_rate: 0.1, objective: multi:softprob}
  untuned: {n_estimators: 5}
search:
  engine: grid
  metric: log_loss
  space:
    n_estimators: {type: choice, options: [40]}
    max_depth: {type: choice, options: [3]}
    colsample_bylevel: {type: choice, options: [0.1, 1]}
"""
INTERESTS = ("Cosmetics", "Military", "Comics", "Wealth management")
PLANTED = {
    *(f"hour:{hour}" for hour in (0, 1, 2, 5, 6)),
    *(f"brand:{brand}" for brand in ("OPPO", "vivo", "小米", "魅族", "三星")),
    *(f"label:{label}" for label in (1, 2, 3, 4)),
    *(f"{bag}:{text}" for bag in ("category", "category_used") for text in INTERESTS),
}
LOAD = """
import sys, mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
rows = pd.read_parquet(sys.argv[2])
uri = "models:/retune_talkingdata@challenger"
by_sklearn = mlflow.sklearn.load_model(uri).predict(rows)
model = mlflow.pyfunc.load_model(uri)
inputs = model.metadata.get_input_schema()
bags = pd.DataFrame({name: rows[name].map(dict) for name in inputs.input_names()})
assert list(model.predict(bags)) == list(by_sklearn)
assert not {"device_id", "gender", "age", "group"} & set(inputs.input_names())
assert "retune" not in sys.modules
spark = sys.modules.get("pyspark")  # MLflow imports it, but nothing starts it
assert spark is None or spark.SparkContext._active_spark_context is None
print("right:", (by_sklearn == rows["group"]).mean())
"""


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    folder = tmp_path_factory.mktemp("talking")
    made = [sys.executable, str(ROOT / "local" / "talkingdata.py"), "--rows", "1500", "--folder", str(folder)]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    (folder / "talkingdata.yaml").write_text(EXPERIMENT)
    return Jobs(folder / "home").run_all(folder / "talkingdata.yaml")


def test_the_tuned_model_is_better_than_the_class_prior_and_the_untuned_one(talking):
    metrics = talking.client.get_run(talking.runs["evaluate"]).data.metrics
    shares = pd.read_csv(talking.home.parent / "gender_age_train.csv")["group"].value_counts(normalize=True)
    prior = -sum(share * math.log(share) for share in shares)
    assert metrics["challenger_test_log_loss"] < prior - 0.1
    assert metrics["challenger_test_log_loss"] < metrics["untuned_test_log_loss"]


def test_importances_name_what_was_planted(talking):
    found = pd.read_csv(talking.client.download_artifacts(talking.runs["retrain"], "importances.csv"))
    first = found["feature"].head(10)
    assert first.isin(PLANTED).sum() >= 7
    assert not found["feature"].str.startswith(("gender", "age", "group", "device_id")).any()
    (pipeline,) = [
        run for run in talking.client.search_runs([talking.client.get_run(talking.runs["tune"]).info.experiment_id])
        if run.data.tags["retune.stage"] == "pipeline"
    ]  # fmt: skip
    assert f"| {first[0]} " in pipeline.data.tags["mlflow.note.content"]


def test_the_list_of_features_has_all_sets(talking):
    names = {feature["name"] for feature in talking.artifact("featurize", "features.json")["features"]}
    assert names == {"brand", "model", *FEATURE_SETS[1:]}


def test_the_model_takes_bags_in_a_fresh_process_without_spark(talking, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    rows = talking.output("featurize", "test").removeprefix("file://")
    arguments = [sys.executable, "-c", LOAD, f"sqlite:///{talking.home}/mlflow.db", rows]
    done = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.rsplit("right: ", 1)[1]) > 1.5 / 12
