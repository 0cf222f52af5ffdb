"""Searches that meet trouble: a fit that hangs, MLflow away for a while, data or a space that changed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests
from flights import EXPERIMENT, write_flights
from jobs.conftest import Jobs

from retune.errors import TrialHung
from retune.experiment_file import change_engine, read_experiment
from retune.search.engine import build_engine

OWN = '''
"""An objective as users write them, but that its first three calls hang."""
import ctypes
import pathlib
import time


def hang_thrice(parameters, rows):
    calls = pathlib.Path(__file__).with_name("calls")
    before = calls.read_text() if calls.exists() else ""
    calls.write_text(before + "x")
    if before == "":
        rows.all.rdd.foreach(lambda row: time.sleep(600))
    if before == "x":
        ctypes.CDLL(None).sleep(600)
    if before == "xx":
        ctypes.PyDLL(None).sleep(600)  # holds Python's lock
    return {"loss": abs(parameters["numLeaves"] - 9) / 10, "leaves": parameters["numLeaves"]}
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


def test_the_watchdog_ends_what_hangs_and_the_search_goes_on(tmp_path):
    """Trial 0 sleeps in a Spark task, which can be cancelled; trials 1 and 2 block in native code, 2 all of Python."""
    jobs, upstream = prepare(tmp_path, SEARCH + "  trial_timeout: 6s\n  objective: own_objectives:hang_thrice\n")
    job = jobs.start("tune", *upstream)
    output, _ = job.communicate(timeout=180)
    assert job.returncode == TrialHung.exit_code, output
    assert statuses(jobs) == [("0", "FAILED"), ("1", "FAILED")]
    slept, blocked = trials(jobs)
    assert slept.data.tags["retune.error"].startswith("TrialTimeout: trial_timeout = 6 s reached")
    assert "only the application's end can end the fit" in blocked.data.tags["retune.error"]
    assert max(run.data.metrics["duration_s"] for run in (slept, blocked)) < 6 + 30
    job = jobs.start("tune", *upstream)
    output, _ = job.communicate(timeout=180)
    assert (job.returncode, TrialHung.exit_codes[1]) == (142, 142), output
    assert 'own_objectives.py", line' in output  # where it hung
    assert statuses(jobs) == [("0", "FAILED"), ("1", "FAILED"), ("2", "FAILED")]
    held = trials(jobs)[2].data
    assert held.tags["retune.error"].startswith("no end within 26 s, and Python itself was blocked")
    jobs.run("tune", *upstream, "--engine", "optuna")  # goes on as well as the engine that began
    assert statuses(jobs) == [("0", "FAILED"), ("1", "FAILED"), ("2", "FAILED"), ("3", "FINISHED")]
    last = trials(jobs)[-1].data
    assert last.metrics["leaves"] == int(last.params["numLeaves"])
    optuna = build_engine(change_engine(read_experiment(tmp_path / "flights.yaml"), "optuna").search)
    for number, run in enumerate(trials(jobs)[:3]):
        optuna.tell(number, json.loads(run.data.tags["retune.setting"]), None)
    assert json.loads(last.tags["retune.setting"]) == optuna.propose(3)


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
