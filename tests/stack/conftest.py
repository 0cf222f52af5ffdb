"""A whole Airflow with scheduler and API, started as `make ui` starts it, on state and experiments of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flights import write_flights
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

ROOT = Path(__file__).parents[2]


class AuditLogLocked(Exception):
    """Airflow refused a request, for its API server could not write who asked for what.

    It does so on its event loop. On SQLite it may wait there for a lock whose holder, a heartbeat say, seems to need
    that same loop to let go, and gives up after 5 s, before it does what was asked.
    """


class Airflow:
    """Talks to Airflow's REST API as its UI does."""

    def __init__(self, home: Path, url: str, user: str, password: str) -> None:
        self.home = home
        self.url = url
        token = self._send("POST", "/auth/token", {"username": user, "password": password}, {})
        self._headers = {"Authorization": f"Bearer {token['access_token']}"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return self._send(method, f"/api/v2{path}", body, self._headers)

    @retry(retry=retry_if_exception_type(AuditLogLocked), stop=stop_after_attempt(3), wait=wait_fixed(1), reraise=True)
    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {**headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == 500 and self._failed_to_log(error.read().decode()):
                raise AuditLogLocked(f"{method} {path}") from error
            raise

    def _failed_to_log(self, answer: str) -> bool:
        """Look up in the API server's log what it could not write."""
        told = re.search(r"look for ID (\w+)", answer)
        log = (self.home / "logs" / "ui-api-server.log").read_text()
        return bool(told) and f"Error with id {told[1]}, statement: INSERT INTO log " in log

    def trigger(self, dag_id: str, **conf: Any) -> str:
        run = self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        found = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        try:
            path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
            return self.call("GET", path)["value"]
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def wait_for_end(self, dag_id: str, run_id: str, timeout_s: float = 600) -> str:
        def ended() -> Any:
            state = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
            return state if state in ("success", "failed") else None

        return str(wait_until(ended, timeout_s))

    @property
    def mlflow(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.home}/mlflow.db")

    def runs(self, stage: str, dag_run_id: str, live: bool = True) -> list[Run]:
        client = self.mlflow
        experiment = client.get_experiment_by_name("retune/flights")
        where = f"tags.`retune.stage` = '{stage}' and tags.`retune.dag_run_id` = '{dag_run_id}'"
        found = client.search_runs([experiment.experiment_id], where, order_by=["attributes.start_time ASC"])
        return [run for run in found if not (live and "retune.superseded_by" in run.data.tags)]


def wait_until(ready: Callable[[], Any], timeout_s: float, step_s: float = 0.5) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := ready():
            return answer
        time.sleep(step_s)
    raise AssertionError(f"not within {timeout_s} s: {ready}")


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    folder = tmp_path_factory.mktemp("stack")
    home = folder / "home"
    home.mkdir()
    shutil.copytree(Path(os.environ["RETUNE_HOME"]) / "jars", home / "jars")  # fetched once is enough
    experiment = write_flights(folder / "experiments")
    ours = ("AIRFLOW_", "RETUNE_", "MLFLOW_", "SPARK_", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {
        "RETUNE_HOME": str(home),
        "RETUNE_EXPERIMENTS": str(experiment.parent),
        # A lost worker shall be noticed soon, not after five minutes.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    }
    script = 'local/setup.sh && . "$RETUNE_HOME/env" && exec python local/ui.py'
    ui = subprocess.Popen(
        ["sh", "-c", script], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    guard = threading.Timer(300, ui.kill)  # else a hung start would hang the tests
    guard.start()
    try:
        assert ui.stdout is not None
        printed = ""
        for line in ui.stdout:
            printed += line
            if "Ctrl-C" in line:
                break
        guard.cancel()
        url = re.search(r"Airflow +(http\S+)", printed)
        login = re.search(r"log in as (\S+) with password (\S+)", printed)
        assert url, printed
        assert login, printed
        yield Airflow(home, url[1], login[1], login[2])
    finally:
        guard.cancel()
        ui.send_signal(signal.SIGINT)
        ui.wait(60)
