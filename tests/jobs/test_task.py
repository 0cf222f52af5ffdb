"""The placement `task`, by real jobs: all five stages, its model in a fresh process, and a trial that hangs."""

from __future__ import annotations

import os
import subprocess
import sys

import mlflow
import pandas as pd
import pytest
from flights import EXPERIMENT, write_flights
from jobs.conftest import Jobs

MODEL = """\
model:
  trainer: sklearn
  untuned: {estimator: sklearn.ensemble.RandomForestClassifier, n_estimators: 3}
search:
  autolog: true
  log_models: all
  metric: accuracy
  max_trials: 6
  seed: 3
  space:
    family:
      type: choice
      options:
        - {estimator: sklearn.ensemble.RandomForestClassifier, max_depth: {type: uniformint, low: 2, high: 9}}
        - {estimator: sklearn.linear_model.LogisticRegression, C: {type: loguniform, low: 0.01, high: 10}}
"""
OWN = '''
"""An objective whose first call blocks in native code."""
import ctypes
import pathlib


def hang_once(parameters, split):
    calls = pathlib.Path(__file__).with_name("calls")
    if not calls.exists():
        calls.write_text("x")
        ctypes.PyDLL(None).sleep(600)  # holds Python's own lock too
    assert len(split.train.labels) > len(split.validation.labels)
    return {"loss": 1.0, "rows": len(split.train.labels), "threads": split.threads}
'''
LOAD = """
import sys, mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
rows = pd.read_csv(sys.argv[2])
rows.loc[3, "carrier"] = "never seen"
uri = "models:/retune_flights@challenger"
by_pyfunc = list(mlflow.pyfunc.load_model(uri).predict(rows.drop(columns=["arrival", "flight no."])))
by_sklearn = list(mlflow.sklearn.load_model(uri).predict(rows))
assert by_pyfunc == by_sklearn
told = rows["arrival"].notna()
assert (pd.Series(by_sklearn)[told] == rows["arrival"][told]).mean() > 0.7
assert "retune" not in sys.modules
print("both loaded")
"""


def write_experiment(folder, model):
    path = write_flights(folder)
    head, _, rest = EXPERIMENT.partition("model:\n")
    path.write_text(head + model + "airflow:" + rest.partition("airflow:")[2])
    return path


@pytest.fixture(scope="module")
def task_chain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task chain")
    return Jobs(folder / "home").run_all(write_experiment(folder, MODEL))


def runs_of(jobs, stage):
    (experiment,) = [e.experiment_id for e in jobs.client.search_experiments() if e.name == "retune/flights"]
    return jobs.client.search_runs([experiment], f"tags.`retune.stage` = '{stage}'")


def test_each_trial_is_a_run_with_its_measures(task_chain):
    trials = runs_of(task_chain, "trial")
    assert sorted(int(run.data.tags["retune.trial"]) for run in trials) == list(range(6))
    assert {run.info.status for run in trials} == {"FINISHED"}
    for run in trials:
        wanted = {"search_loss", "validation_accuracy", "train_accuracy", "fit_s", "duration_s"}
        assert wanted <= run.data.metrics.keys()
    assert {run.data.params["estimator"].rpartition(".")[2] for run in trials} == {
        "RandomForestClassifier",
        "LogisticRegression",
    }


def test_each_trial_has_what_mlflow_logs_by_itself_and_a_model_that_names_the_classes(task_chain, tmp_path):
    rows = pd.read_csv(task_chain.home.parent / "flights.csv").dropna(subset="arrival")
    logged = {run.data.tags["mlflow.parentRunId"]: run for run in runs_of(task_chain, "autolog")}
    trials = runs_of(task_chain, "trial")
    assert logged.keys() == {trial.info.run_id for trial in trials}
    assert all(run.info.status == "FINISHED" and run.data.params for run in logged.values())
    for trial in trials[:2]:
        (output,) = trial.outputs.model_outputs
        folder = task_chain.client.get_logged_model(output.model_id).artifact_location
        predicted = mlflow.sklearn.load_model(folder).predict(rows)
        assert (predicted == rows["arrival"]).mean() > 0.6


def test_the_challenger_is_tested_and_promoted(task_chain):
    metrics = task_chain.client.get_run(task_chain.runs["evaluate"]).data.metrics
    assert metrics["challenger_test_accuracy"] > 0.6
    assert 0 < metrics["challenger_test_auc"] <= 1
    assert (
        task_chain.client.get_model_version_by_alias("retune_flights", "champion").run_id == task_chain.runs["retrain"]
    )


def test_the_model_scores_raw_rows_in_a_fresh_process_without_spark(task_chain, tmp_path):
    environment = {name: value for name, value in task_chain.environment.items() if name != "PYTHONPATH"}
    csv = task_chain.home.parent / "flights.csv"
    arguments = [sys.executable, "-c", LOAD, f"sqlite:///{task_chain.home}/mlflow.db", str(csv)]
    done = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "both loaded"


def test_a_trial_that_blocks_in_native_code_is_ended_and_the_search_goes_on_with_no_model_kept(tmp_path):
    (tmp_path / "own_objectives.py").write_text(OWN)
    path = f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"
    jobs = Jobs(tmp_path / "home", settings={"RETUNE_ALLOWED_MODULES": "own_objectives", "PYTHONPATH": path})
    search = "search:\n  objective: own_objectives:hang_once\n  trial_timeout: 8s\n  parallelism: 2\n"
    model = MODEL.replace("search:\n", search).replace("  autolog: true\n  log_models: all\n", "  log_models: none\n")
    experiment = write_experiment(tmp_path, model)
    jobs.run("ingest", "--experiment", str(experiment))
    jobs.run("featurize", "--upstream-run-id", jobs.runs["ingest"])
    jobs.run("tune", "--upstream-run-id", jobs.runs["featurize"])
    trials = {int(run.data.tags["retune.trial"]): run for run in runs_of(jobs, "trial")}
    failed = [run for run in trials.values() if run.info.status == "FAILED"]
    assert [run.data.tags["retune.error"].partition(":")[0] for run in failed] == ["TrialTimeout"]
    assert failed[0].data.metrics["duration_s"] < 8 + 30
    assert sorted(trials) == list(range(6))
    assert jobs.client.get_run(jobs.runs["tune"]).data.metrics["parallel_trials"] == 2
    assert {run.data.metrics["threads"] for run in trials.values() if run.info.status == "FINISHED"} == {1.0}
    jobs.run("retrain", "--upstream-run-id", jobs.runs["tune"])
    jobs.run("evaluate", "--upstream-run-id", jobs.runs["retrain"])
    assert jobs.client.search_registered_models() == []  # log_models: none
    assert jobs.client.get_run(jobs.runs["evaluate"]).data.metrics["challenger_test_accuracy"] > 0
