"""The operator over a stand-in for spark-submit, with a real MLflow: submitting again, and Airflow's kill."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from airflow.sdk.execution_time.task_runner import _run_execute_callable
from dags.conftest import ROOT
from mlflow.tracking import MlflowClient

from retune.errors import BadInput, TrialHung
from retune.run_tree import Lease, kill_stage, lease_stage
from retune.tracking import connect
from retune_airflow.operator import StageOperator

# Each call is answered with the next of the exit codes in `codes`.
ANSWERS = """\
echo "$@" >> "$0.calls"
exit "$(sed -n "$(wc -l < "$0.calls")p" "$0.codes")"
"""
# A tree of which one branch cannot be told to end, and whose root says that all went well when it is.
RUNS_ON = """\
echo "$@" >> "$0.calls"
trap 'exit 0' TERM
sh -c 'trap "" TERM; sleep 301 & sleep 302; wait' &
sh -c 'sleep 303 & sleep 304; wait' &
wait
"""
TREE = 7  # processes of it
NAMES = ("spark-submit", "sh", "sleep")


class TaskInstance:
    max_tries = 0

    def __init__(self) -> None:
        self.xcoms: list[tuple[str, Any]] = []

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms.append((key, value))


@dataclass
class Try:
    """One try of an ingest task: an operator of its own, as Airflow makes it, over the same DAG run."""

    submit: Path
    run_id: str
    ti: TaskInstance = field(default_factory=TaskInstance)

    def __post_init__(self) -> None:
        self.task = self.new_task()

    def new_task(self, file: Path = ROOT / "experiments" / "diabetes.yaml", **kwargs: Any) -> StageOperator:
        args = ["--experiment", str(file), "--params", "{}"]
        with DAG("retune_diabetes", schedule=None, params={"spark_conn_id": "spark_default"}):
            return StageOperator(stage="ingest", job_args=args, **kwargs)

    def execute(self, **params: Any) -> Any:
        context = {"params": {"spark_conn_id": "spark_default", **params}, "ti": self.ti, "run_id": self.run_id}
        return _run_execute_callable(context, self.task.execute, self.task)

    @property
    def leases(self) -> list[tuple[str, str]]:
        """What each call of spark-submit was given: run and attempt."""
        calls = Path(f"{self.submit}.calls")
        words = [line.split() for line in calls.read_text().splitlines()] if calls.exists() else []
        return [(line[line.index("--run-id") + 1], line[line.index("--attempt") + 1]) for line in words]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """State for all tests of this module, since a new MLflow database takes seconds."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def new_try(home, tmp_path, monkeypatch):
    monkeypatch.setenv("RETUNE_HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "local[1]"}')

    def make(script: str, codes: str = "") -> Try:
        submit = tmp_path / "spark-submit"
        submit.write_text(f"#!/bin/sh\n{script}")
        submit.chmod(0o755)
        Path(f"{submit}.calls").unlink(missing_ok=True)
        Path(f"{submit}.codes").write_text(codes.replace(" ", "\n") + "\n")
        return Try(submit, tmp_path.name)

    return make


def status(client: MlflowClient, run_id: str) -> tuple[str, str]:
    run = client.get_run(run_id)
    return run.info.status, run.data.tags["retune.attempt"]


def start_trial(client: MlflowClient, stage_run_id: str) -> str:
    experiment_id = client.get_run(stage_run_id).info.experiment_id
    tags = {"retune.stage": "trial", "mlflow.parentRunId": stage_run_id}
    return str(client.create_run(experiment_id, tags=tags).info.run_id)


def family() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.name() in NAMES]


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@dataclass
class Watcher:
    """Waits in a thread until all of `RUNS_ON` runs, starts a trial there, then does what it was told."""

    tried: Try
    then: Callable[[], Any]
    trial: str = ""
    processes: list[psutil.Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        deadline = time.monotonic() + 60
        while len(self.processes) < TREE and time.monotonic() < deadline:
            time.sleep(0.05)
            self.processes = family()
        self.trial = start_trial(connect(), self.tried.leases[-1][0])
        self.then()

    def join(self) -> None:
        self._thread.join()


@pytest.fixture
def told_to_end(monkeypatch):
    """Install what Airflow's task runner does on SIGTERM, for the task that it is given."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda task: signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
    signal.signal(signal.SIGTERM, before)


def end_myself() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_hung_trial_is_submitted_again_within_the_try(new_try, capsys):
    tried = new_try(ANSWERS, f"{TrialHung.exit_codes[0]} {TrialHung.exit_codes[1]} 0")
    run_id = tried.execute()
    assert tried.leases == [(run_id, "1"), (run_id, "2"), (run_id, "3")]
    assert status(connect(), run_id) == ("RUNNING", "3")  # the stand-in does not end it
    assert tried.task.application_args[-4:] == ["--run-id", run_id, "--attempt", "3"]
    assert {key for key, _ in tried.ti.xcoms} == {"_link_MlflowRunLink"}
    assert "attempt 2 of ingest ended with a trial that hung; submitting again" in capsys.readouterr().out


def test_a_job_that_finished_when_it_is_to_be_submitted_again_is_adopted(new_try):
    """A job of the attempt before that goes on unseen, say on a cluster, may end its run in between."""
    tried = new_try(ANSWERS, f"{TrialHung.exit_code} 0")
    lease = tried.task._lease

    def lease_late(*args: Any) -> Lease:
        for run_id, _ in tried.leases:
            connect().set_terminated(run_id, "FINISHED")
        return lease(*args)

    tried.task._lease = lease_late
    run_id = tried.execute()
    assert tried.leases == [(run_id, "1")]
    assert status(connect(), run_id) == ("FINISHED", "1")


@pytest.mark.parametrize(
    ("codes", "error", "message"),
    [
        ("70", AirflowException, "exit code 70"),
        (f"{TrialHung.exit_code} 75", AirflowException, "exit code 75"),
        (f"{TrialHung.exit_code} {BadInput.exit_code}", AirflowFailException, "not retried, for it would end the same"),
    ],
)
def test_any_other_exit_code_ends_the_try(new_try, codes, error, message):
    tried = new_try(ANSWERS, codes)
    with pytest.raises(error, match=message):
        tried.execute()
    assert len(tried.leases) == len(codes.split())


def test_a_parameter_that_the_form_does_not_have_is_refused_before_anything_is_submitted(new_try):
    tried = new_try(ANSWERS, "0")
    with pytest.raises(AirflowFailException, match=r"^conf\.max_trial: there is no such parameter; there are .*spark"):
        tried.execute(max_trial=3)
    assert tried.leases == []


def test_a_job_that_fails_for_want_of_java_says_so_and_is_not_retried(new_try, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(
        AirflowFailException, match=r"^ingest: Spark needs Java .* JAVA_HOME = /nowhere has no bin/java"
    ):
        new_try(ANSWERS, "1").execute()


def test_kill_leaves_no_process_and_a_killed_run_that_a_retry_goes_on_with(new_try, told_to_end):
    tried = new_try(RUNS_ON)
    told_to_end(tried.task)
    started: list[float] = []

    def end_twice() -> None:
        started.append(time.monotonic())
        end_myself()
        time.sleep(0.5)
        end_myself()

    watcher = Watcher(tried, end_twice)
    with pytest.raises(AirflowException, match="ingest: killed"):
        tried.execute()
    assert time.monotonic() - started[0] < 5  # then Airflow kills the task
    watcher.join()
    assert len(watcher.processes) == TREE
    assert [process for process in watcher.processes if not is_gone(process)] == []
    client = connect()
    ((run_id, _),) = tried.leases
    assert status(client, run_id) == ("KILLED", "1")
    assert client.get_run(watcher.trial).info.status == "KILLED"

    again = new_try(ANSWERS, "0")
    assert again.execute() == run_id
    assert again.leases == [(run_id, "2")]
    assert status(client, run_id) == ("RUNNING", "2")


def test_a_time_out_kills_too(new_try):
    tried = new_try(RUNS_ON)
    tried.task = tried.new_task(execution_timeout=timedelta(seconds=8))
    watcher = Watcher(tried, lambda: None)
    with pytest.raises(AirflowTaskTimeout):
        tried.execute()
    watcher.join()
    assert len(watcher.processes) == TREE
    assert [process for process in watcher.processes if not is_gone(process)] == []
    client = connect()
    assert status(client, tried.leases[0][0]) == ("KILLED", "1")
    assert client.get_run(watcher.trial).info.status == "KILLED"


def test_kill_leaves_alone_what_a_newer_attempt_owns(new_try, told_to_end):
    tried = new_try(RUNS_ON)
    told_to_end(tried.task)

    def take_over() -> None:
        lease_stage(connect(), "retune/diabetes", "ingest", tried.run_id)
        end_myself()

    watcher = Watcher(tried, take_over)
    with pytest.raises(AirflowException, match="killed"):
        tried.execute()
    watcher.join()
    assert [process for process in watcher.processes if not is_gone(process)] == []
    assert status(connect(), tried.leases[0][0]) == ("RUNNING", "2")
    assert connect().get_run(watcher.trial).info.status == "RUNNING"


@pytest.mark.parametrize("when", ["before the lease", "after the lease"])
def test_a_kill_before_the_submit_submits_nothing(new_try, told_to_end, when):
    tried = new_try(ANSWERS, "0")
    told_to_end(tried.task)
    lease = tried.task._lease
    leases = []

    def lease_and_end(*args: Any) -> Lease:
        if when == "before the lease":
            end_myself()
        leases.append(lease(*args))
        if when == "after the lease":
            end_myself()
        return leases[0]

    tried.task._lease = lease_and_end
    with pytest.raises(AirflowException, match="killed"):
        tried.execute()
    assert tried.leases == []
    assert status(connect(), leases[0].run_id) == ("KILLED", "1")


def test_a_kill_that_cannot_reach_mlflow_still_ends_the_processes(new_try, told_to_end, monkeypatch, capsys):
    tried = new_try(RUNS_ON)
    told_to_end(tried.task)

    def lose_mlflow() -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
        end_myself()

    watcher = Watcher(tried, lose_mlflow)
    with pytest.raises(AirflowException, match="ingest: killed"):
        tried.execute()
    watcher.join()
    assert [process for process in watcher.processes if not is_gone(process)] == []
    assert f"run {tried.leases[0][0]} could not be marked KILLED" in capsys.readouterr().out


def test_a_finished_run_stays_finished(new_try):
    tried = new_try(ANSWERS, "0")
    run_id = tried.execute()
    client = connect()
    client.set_terminated(run_id, "FINISHED")
    kill_stage(client, Lease(run_id, 1))
    assert status(client, run_id) == ("FINISHED", "1")


READS_CREDENTIALS = """\
while [ "$1" != --credentials ]; do shift; done
ls -l "$2" > "$0.pipe"
ps axeww >> "$0.pipe"
cat "$2" > "$0.read"
"""
CANARY = "Y2FuYXJ5LXNlY3JldA=="


@pytest.fixture
def blob_experiment(tmp_path, monkeypatch):
    """The diabetes experiment on a blob, of a connection with a secret."""
    text = (ROOT / "experiments" / "diabetes.yaml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("data:"))
    data = "{source: azure_blob, account: me3, container: rows, path: a.csv, connection: blobs, target: target}"
    file = tmp_path / "diabetes.yaml"
    file.write_text(text.replace(line, f"data: {data}"))
    secret = (
        f'{{"conn_type": "wasb", "login": "me3", "password": "{CANARY}", "extra": {{"sas_token": "sig={CANARY}"}}}}'
    )
    monkeypatch.setenv("AIRFLOW_CONN_BLOBS", secret)
    return file


def test_a_job_reads_the_connection_of_its_data_once_from_a_pipe_of_its_owner(new_try, blob_experiment, capfd):
    task = new_try(READS_CREDENTIALS)
    task.task = task.new_task(blob_experiment)
    task.execute()
    read = json.loads(Path(f"{task.submit}.read").read_text())
    assert (read["login"], read["password"], read["extra"]) == ("me3", CANARY, {"sas_token": f"sig={CANARY}"})
    pipe, *processes = Path(f"{task.submit}.pipe").read_text().splitlines()
    assert pipe.startswith("prw-------")
    own = [line for line in processes if "AIRFLOW_CONN_BLOBS" not in line]  # which this test itself has put there
    assert not any(CANARY in line for line in own)
    assert CANARY not in str(task.task.application_args) + str(task.ti.xcoms) + "".join(capfd.readouterr())
    assert not Path(pipe.split()[-1]).exists()


def test_a_job_that_never_asks_for_its_connection_holds_nothing_up(new_try, blob_experiment):
    task = new_try("exit 70")
    task.task = task.new_task(blob_experiment)
    with pytest.raises(AirflowException, match="exit code 70"):
        task.execute()
    assert [thread for thread in threading.enumerate() if thread.name == "retune-connection"] == []


def test_a_connection_that_airflow_does_not_have_is_named(new_try, blob_experiment, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_BLOBS")
    task = new_try("exit 0")
    task.task = task.new_task(blob_experiment)
    with pytest.raises(AirflowFailException, match=r"^data.connection = 'blobs': Airflow has no such connection"):
        task.execute()
    assert task.leases == []
