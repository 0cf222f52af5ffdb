"""Searches that meet trouble: a fit that hangs, MLflow away for a while, data or a space that changed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from flights import EXPERIMENT, write_flights
from jobs.conftest import Jobs

from retune.errors import TrialHung

OWN = '''
"""Objectives as users write them; the first call of those that hang, hangs."""
import ctypes
import pathlib
import time

MARK = pathlib.Path(__file__).with_name("hung")


def _first():
    first = not MARK.exists()
    MARK.touch()
    return first


def distance(parameters, rows):
    return abs(parameters["numLeaves"] - 9) / 10


def sleeps_in_a_task(parameters, rows):
    if _first():
        rows.all.rdd.foreach(lambda row: time.sleep(600))
    return distance(parameters, rows)


def blocks_in_native_code(parameters, rows):
    if _first():
        ctypes.CDLL(None).sleep(600)
    return {"loss": distance(parameters, rows), "leaves": parameters["numLeaves"]}
'''
SEARCH = "  max_trials: 4\n"


def prepare(tmp_path, search=SEARCH, **environment):
    """Ingest and featurize the flights; return the jobs and how tune is called."""
    (tmp_path / "own_objectives.py").write_text(OWN)
    path = f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"
    settings = {"RETUNE_ALLOWED_MODULES": "own_objectives", "PYTHONPATH": path, **environment}
    jobs = Jobs(tmp_path / "home", settings=settings)
    experiment = write_flights(tmp_path)
    experiment.write_text(EXPERIMENT.replace(SEARCH, search))
    jobs.run("ingest", "--experiment", str(experiment))
    jobs.run("featurize", "--upstream-run-id", jobs.runs["ingest"])
    return jobs, ("--upstream-run-id", jobs.runs["featurize"])


def trials(jobs):
    """Return the live trial runs of the one tune run, by start."""
    (experiment,) = [e.experiment_id for e in jobs.client.search_experiments() if e.name == "retune/flights"]
    return jobs.client.search_runs(
        [experiment], "tags.`retune.stage` = 'trial'", order_by=["attributes.start_time ASC"]
    )


def statuses(jobs):
    return [(run.data.tags["retune.trial"], run.info.status) for run in trials(jobs)]


def test_a_trial_that_sleeps_in_a_spark_task_is_ended_and_the_search_goes_on(tmp_path):
    search = SEARCH + "  trial_timeout: 8s\n  objective: own_objectives:sleeps_in_a_task\n"
    jobs, upstream = prepare(tmp_path, search)
    output = jobs.run("tune", *upstream)
    assert statuses(jobs) == [("0", "FAILED"), *((str(n), "FINISHED") for n in (1, 2, 3))]
    hung = trials(jobs)[0]
    assert hung.data.tags["retune.error"].startswith("TrialTimeout: trial_timeout = 8 s reached")
    assert hung.data.metrics["duration_s"] < 8 + 30
    assert "FAILED: TrialTimeout" in output


def test_a_trial_that_blocks_in_native_code_ends_the_application_and_the_next_goes_on(tmp_path):
    search = SEARCH + "  trial_timeout: 5s\n  objective: own_objectives:blocks_in_native_code\n"
    jobs, upstream = prepare(tmp_path, search)
    job = jobs.start("tune", *upstream)
    output, _ = job.communicate(timeout=120)
    assert job.returncode == TrialHung.exit_code, output
    assert statuses(jobs) == [("0", "FAILED")]
    assert trials(jobs)[0].data.metrics["duration_s"] < 5 + 30
    jobs.run("tune", *upstream)
    assert statuses(jobs) == [("0", "FAILED"), *((str(n), "FINISHED") for n in (1, 2, 3))]
    assert trials(jobs)[-1].data.metrics["leaves"] == int(trials(jobs)[-1].data.params["numLeaves"])


class Server:
    """A real MLflow server on loopback, which can be stopped and started again."""

    def __init__(self, folder, port):
        self.uri = f"http://127.0.0.1:{port}"
        store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/files"]
        self._command = [sys.executable, "-m", "mlflow", "server", *store, "--host", "127.0.0.1", "--port", str(port)]
        self._command += ["--workers", "1"]
        self._process = None

    def start(self):
        self._process = subprocess.Popen(
            self._command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if requests.get(f"{self.uri}/health", timeout=5).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.5)
        raise AssertionError("the MLflow server did not come up")

    def stop(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(tmp_path, port)
    server.start()
    yield server
    server.stop()


def test_mlflow_away_for_half_a_minute_costs_no_trial_and_doubles_none(tmp_path, server):
    jobs, upstream = prepare(tmp_path, MLFLOW_TRACKING_URI=server.uri)
    job = jobs.start("tune", *upstream)
    for line in job.stdout:
        if " 1/4  trial" in line:
            server.stop()
            time.sleep(30)
            server.start()
    assert job.wait(120) == 0
    assert statuses(jobs) == [(str(n), "FINISHED") for n in range(4)]


def test_trials_of_another_space_are_set_aside(tmp_path):
    """As when the file changed and the pipeline's resolved experiment with it, between two attempts."""
    jobs, upstream = prepare(tmp_path)
    job = jobs.start("tune", *upstream)
    for line in job.stdout:
        if " 2/4  trial" in line:
            os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    pipeline = jobs.tags("featurize")["mlflow.parentRunId"]
    resolved = jobs.client.download_artifacts(pipeline, "experiment.json", str(tmp_path))
    text = Path(resolved).read_text()
    assert '"high": 15' in text
    jobs.client.log_text(pipeline, text.replace('"high": 15', '"high": 14'), "experiment.json")
    output = jobs.run("tune", *upstream)
    assert "space changed since" in output
    assert "resuming" not in output
    live = [run for run in trials(jobs) if "retune.superseded_by" not in run.data.tags]
    finished = [run.data.tags["retune.trial"] for run in live if run.info.status == "FINISHED"]
    assert finished == ["0", "1", "2", "3"]
