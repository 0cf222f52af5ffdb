"""The trainer `keras` by real jobs: losses by epoch, a loss that is no number, and the model in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest
from jobs.conftest import Jobs
from jobs.test_task import LOAD, runs_of, write_experiment

pytest.importorskip("tensorflow")

MODEL = """\
model:
  trainer: keras
  fixed: {layers: 1, units: 16, batch_size: 16, epochs: 12}
  untuned: {learning_rate: 0.003}
search:
  autolog: true
  metric: accuracy
  max_trials: 3
  seed: 3
  early_stopping_rounds: 10
  points_to_evaluate: [{learning_rate: 1.0e+30}, {learning_rate: 0.02}]
  space:
    learning_rate: {type: choice, options: [0.003, 0.02, 1.0e+30]}
"""


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return Jobs(folder / "home").run_all(write_experiment(folder, MODEL))


def test_each_trial_has_its_losses_by_epoch(networks):
    fine = [run for run in runs_of(networks, "trial") if run.info.status == "FINISHED"]
    assert {run.data.params["learning_rate"] for run in fine} == {"0.003", "0.02"}
    for run in fine:
        for name in ("train_loss", "validation_loss"):
            steps = [each.step for each in networks.client.get_metric_history(run.info.run_id, name)]
            assert steps == list(range(1, len(steps) + 1))
            assert run.data.metrics["rounds"] <= len(steps) <= 12
        assert run.data.metrics["search_loss"] == -run.data.metrics["validation_accuracy"]


def test_what_mlflow_logs_by_itself_is_below_the_trial(networks):
    below = {run.data.tags["mlflow.parentRunId"]: run for run in runs_of(networks, "autolog")}
    for trial in runs_of(networks, "trial"):
        assert trial.info.status == "FAILED" or "val_loss" in below[trial.info.run_id].data.metrics


def test_a_loss_that_is_no_number_fails_the_trial_and_not_the_search(networks):
    (failed,) = [run for run in runs_of(networks, "trial") if run.info.status == "FAILED"]
    assert failed.data.params["learning_rate"] == "1e+30"
    assert "loss" in failed.data.tags["retune.error"]
    assert networks.output("tune", "best_trial") != failed.info.run_id


def test_the_network_of_the_best_epoch_is_refitted_and_tested(networks):
    best = networks.client.get_run(networks.output("tune", "best_trial"))
    assert networks.output("tune", "best_rounds") == str(round(best.data.metrics["rounds"]))
    assert networks.client.get_run(networks.runs["evaluate"]).data.metrics["challenger_test_accuracy"] > 0.6


def test_the_model_scores_raw_rows_in_a_fresh_process_without_spark(networks, tmp_path):
    environment = {name: value for name, value in networks.environment.items() if name != "PYTHONPATH"}
    csv = networks.home.parent / "flights.csv"
    arguments = [sys.executable, "-c", LOAD, f"sqlite:///{networks.home}/mlflow.db", str(csv)]
    done = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "both loaded"
