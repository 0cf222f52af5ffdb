"""The MLflow project by real processes: its search, with a `train` that needs no TensorFlow, and with the real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

import mlflow
import psutil
import pytest
from flights import write_flights
from jobs.conftest import ROOT
from mlflow.tracking import MlflowClient

from retune.errors import AllTrialsFailed
from retune.project import search as project_search
from retune.project.asked import read_asked

WINE = str(ROOT / "experiments" / "wine_keras.yaml")
TRAIN = """
import os, sys, mlflow
told = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with mlflow.start_run() as run:
    for step in (0, 1):
        mlflow.log_metric("loss", 100 + step, step=step)
    if float(told["--learning_rate"]) > 0.02:
        mlflow.set_tag("retune.error", "RuntimeError: NaN or Inf loss")
        sys.exit(1)
    mlflow.log_metrics({"validation_log_loss": float(told["--learning_rate"]), "train_log_loss": 0.1,
                        "validation_accuracy": 1 - float(told["--learning_rate"])})
"""
PROJECT = "entry_points: {train: {command: python train.py}}\n"


@pytest.fixture
def tracked(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    (tmp_path / "MLproject").write_text(PROJECT)
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.setattr(project_search, "_PROJECT", tmp_path)
    yield MlflowClient(uri)
    mlflow.set_tracking_uri(None)


def searching(low, high, trials=4):
    space = {"learning_rate": {"type": "choice", "options": [low, high]}}
    points = [{"learning_rate": high}, {"learning_rate": low}]
    search = {"search.space": space, "search.max_trials": trials, "search.points_to_evaluate": points}
    changes = search | {"model.untuned": {}, "search.metric": "accuracy"}
    return read_asked(Namespace(experiment=WINE, data="", target="", problem=""), changes)


def test_each_setting_is_a_child_run_and_one_that_fails_is_not_the_best(tracked):
    result = project_search.search(tracked, searching(0.01, 0.5), {})
    parent = tracked.get_run(tracked.get_run(result.best.run_id).data.tags["mlflow.parentRunId"])
    below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = tracked.search_runs(["0"], below, order_by=["attributes.start_time ASC"])
    assert len(children) == 4
    failed = [run for run in children if run.data.params["learning_rate"] == "0.5"]
    assert failed[0].info.run_id == children[0].info.run_id
    assert {run.info.status for run in failed} == {"FAILED"}
    assert {run.data.tags["retune.error"] for run in failed} == {"RuntimeError: NaN or Inf loss"}
    fine = [run for run in children if run not in failed]
    assert {run.info.status for run in fine} == {"FINISHED"}
    assert parent.info.status == "FINISHED"
    asked = {"data": "sklearn wine", "target": "target", "problem": "multiclass", "metric": "accuracy"}
    assert parent.data.params == asked
    assert parent.data.tags["best_run"] == fine[0].info.run_id
    assert json.loads(parent.data.tags["best_params"]) == {"learning_rate": 0.01}
    assert parent.data.metrics["validation_accuracy"] == 0.99
    assert parent.data.metrics["train_log_loss"] == 0.1
    assert fine[0].data.metrics["search_loss"] == -0.99  # by accuracy, as it was asked
    assert [each.value for each in tracked.get_metric_history(fine[0].info.run_id, "loss")] == [100, 101]


def test_where_every_setting_fails_the_parent_fails(tracked):
    with pytest.raises(AllTrialsFailed, match="all 2 trials failed; the first error was: RuntimeError: NaN"):
        project_search.search(tracked, searching(0.3, 0.5, trials=2), {})
    (parent,) = tracked.search_runs(["0"], "tags.`retune.stage` = 'search'")
    assert parent.info.status == "FAILED"
    assert "best_run" not in parent.data.tags


ENDED = """
import sys
from pathlib import Path
from retune.project import command, search as project_search
project_search._PROJECT = Path(sys.argv.pop(1))
project_search.load_trainer("keras").__class__.require_installed = lambda self: None  # the child needs none either
sys.exit(command.main("main", "search"))
"""
SLOW = """
import os, time, mlflow
with mlflow.start_run():
    open("train.pid", "w").write(str(os.getpid()))
    time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_search_that_is_ended_takes_its_child_along_and_leaves_no_run_running(tracked, tmp_path, number):
    (tmp_path / "train.py").write_text(SLOW)
    experiment = tmp_path / "wine_keras.yaml"
    experiment.write_text(Path(WINE).read_text())
    command = [sys.executable, "-c", ENDED, str(tmp_path), "--experiment", str(experiment)]
    search = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    pid = wait_for(tmp_path / "train.pid", search)
    search.send_signal(number)
    assert search.wait(60) == 128 + number
    assert not psutil.pid_exists(pid)
    assert {run.info.status for run in tracked.search_runs(["0"])} <= {"FAILED", "KILLED"}


def wait_for(path, process):
    for _ in range(1200):
        if path.exists() and (text := path.read_text()):
            return int(text)
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    raise AssertionError("the child did not start")


def run_project(tmp_path, entry_point, **parameters):
    given = [part for name, value in parameters.items() for part in ("-P", f"{name}={value}")]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RETUNE_WORKSPACE"},
        "RETUNE_HOME": str(tmp_path / "home"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", entry_point, "--env-manager", "local", *given]
    return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_the_search_trains_networks_and_one_whose_loss_is_no_number_fails(tmp_path):
    path = tmp_path / "wine.yaml"
    text = (ROOT / "experiments" / "wine_keras.yaml").read_text().replace("name: wine_keras", "name: wine")
    rate = "learning_rate: {type: choice, options: [0.003, 1.0e+30]}"
    text = text.replace("learning_rate: {type: loguniform, low: 0.0005, high: 0.005}", rate)
    astray = "  points_to_evaluate: [{layers: 1, units: 8, dropout: 0.1, learning_rate: 1.0e+30, batch_size: 32}]\n"
    path.write_text(
        text.replace("learning_rate: 0.001", "learning_rate: 0.003").replace("  space:\n", astray + "  space:\n")
    )
    done = run_project(tmp_path, "main", experiment=path, max_runs=2, epochs=4, metric="accuracy", algo="rand")
    assert done.returncode == 0, done.stderr + done.stdout
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (parent,) = client.search_runs(["0"], "tags.`retune.stage` = 'search'")
    fine, failed = client.search_runs(
        ["0"], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", order_by=["attributes.start_time ASC"]
    )
    assert (fine.info.status, failed.info.status, parent.info.status) == ("FINISHED", "FAILED", "FINISHED")
    assert parent.data.tags["best_run"] == fine.info.run_id
    assert parent.data.metrics["validation_accuracy"] == fine.data.metrics["validation_accuracy"]
    assert [each.step for each in client.get_metric_history(fine.info.run_id, "val_loss")] == [0, 1, 2, 3]
    (output,) = fine.outputs.model_outputs
    assert client.get_logged_model(output.model_id).name == "model"


def test_the_pipeline_runs_without_airflow(tmp_path):
    done = run_project(tmp_path, "pipeline", experiment=write_flights(tmp_path), params=json.dumps({"max_trials": 2}))
    assert done.returncode == 0, done.stderr + done.stdout
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("retune/flights").experiment_id
    (pipeline,) = client.search_runs([experiment], "tags.`retune.stage` = 'pipeline'")
    below = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{pipeline.info.run_id}'")
    assert {run.data.tags["retune.stage"]: run.info.status for run in [pipeline, *below]} == dict.fromkeys(
        ("pipeline", "ingest", "featurize", "tune", "retrain", "evaluate"), "FINISHED"
    )


def test_a_pipeline_that_is_ended_takes_its_job_along_and_leaves_no_run_running(tmp_path, monkeypatch):
    monkeypatch.delenv("RETUNE_WORKSPACE", raising=False)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    environment = {**os.environ, "RETUNE_HOME": str(tmp_path / "home"), "MLFLOW_TRACKING_URI": uri}
    client = MlflowClient(uri)
    command = [sys.executable, str(ROOT / "jobs" / "pipeline.py"), "--experiment", str(write_flights(tmp_path))]
    with (tmp_path / "log").open("w") as log:
        pipeline = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    while "reading " not in (tmp_path / "log").read_text():  # as ingest's job says once its session is up
        assert pipeline.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.1)
    below = psutil.Process(pipeline.pid).children(recursive=True)
    pipeline.terminate()
    assert pipeline.wait(60) == 128 + signal.SIGTERM
    assert psutil.wait_procs(below, timeout=30)[1] == []
    experiment = client.get_experiment_by_name("retune/flights").experiment_id
    runs = {run.data.tags["retune.stage"]: run.info.status for run in client.search_runs([experiment])}
    assert runs.keys() == {"pipeline", "ingest"}
    assert runs["pipeline"] == "FAILED"
    assert runs["ingest"] in ("FAILED", "KILLED")


def test_a_stage_that_fails_ends_the_pipeline_with_its_exit_code(tmp_path):
    path = write_flights(tmp_path)
    (tmp_path / "flights.csv").unlink()
    done = run_project(tmp_path, "pipeline", experiment=path)
    assert done.returncode == 1  # MLflow's own; ours is in the log
    assert "ingest ended with exit code 65" in done.stdout
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("retune/flights").experiment_id
    assert {run.info.status for run in client.search_runs([experiment])} == {"FAILED"}
