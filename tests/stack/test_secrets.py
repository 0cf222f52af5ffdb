"""A credential of a blob store, planted in every spelling: wherever anybody could look, it is not there."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from azure.storage.blob import BlobServiceClient
from blob_servers import ACCOUNT, ACCOUNT_KEY, azurite, find_azurite
from stack.conftest import Airflow, wait_until

DAG, CONNECTION = "retune_blob_flights", "blobs"
SIGNATURE = "c2lnbmF0dXJlLWNhbmFyeQ=="
WRONG_KEY = "d3JvbmcgY2FuYXJ5IHdyb25n"
SECRETS = [ACCOUNT_KEY, SIGNATURE, WRONG_KEY]
SPELLINGS = [text.encode() for secret in SECRETS for text in (secret, quote(secret, safe=""))]


@dataclass
class Watch:
    """What could be seen while the jobs ran: command lines and environments, and Spark's own pages."""

    processes: set[bytes] = field(default_factory=set)
    pages: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))

    def look(self) -> None:
        seen = subprocess.run(["ps", "axeww", "-o", "args"], capture_output=True, check=True).stdout
        # The server that holds the account knows its key.
        self.processes.update(line for line in seen.splitlines() if b"azurite-blob" not in line)
        for page in ("environment/", "executors/", "jobs/", "api/v1/applications"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{UI_PORT}/{page}", timeout=5) as answer:
                    self.pages[page].add(answer.read())
            except OSError:
                continue


UI_PORT = 14140


@contextmanager
def watching() -> Iterator[Watch]:
    watch, done = Watch(), threading.Event()

    def look() -> None:
        while not done.is_set():
            watch.look()
            time.sleep(0.2)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    if find_azurite() is None:
        pytest.skip("Azurite is not installed")
    with azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


def ingest(airflow: Airflow, connection: dict[str, object], dag: str = DAG) -> tuple[str, str]:
    """Run the first stage with this connection; return the DAG run and how the stage ended."""
    body = {"connection_id": CONNECTION, "conn_type": "wasb", **connection}
    body["extra"] = json.dumps(body.get("extra", {}))
    airflow.call("POST", "/connections", body)
    run_id = airflow.trigger(dag)
    try:
        state = wait_until(lambda: ended(airflow, dag, run_id), 200)
        airflow.call("PATCH", f"/dags/{dag}/dagRuns/{run_id}", {"state": "failed"})  # the other stages know no store
    finally:
        airflow.call("DELETE", f"/connections/{CONNECTION}")
    return run_id, state


def ended(airflow: Airflow, dag: str, run_id: str) -> str | None:
    state = airflow.tasks(dag, run_id)["ingest"]["state"]
    return state if state in ("success", "failed") else None


@pytest.fixture(scope="module")
def runs(airflow, store):
    """Three runs of ingest: with a connection string, with the key alone, and refused with a wrong key."""
    url, log = store
    experiments = airflow.home.parent / "experiments"
    container = BlobServiceClient(url, credential=ACCOUNT_KEY).create_container("flights")
    container.upload_blob("flights.csv", (experiments / "flights.csv").read_bytes())
    text = (experiments / "flights.yaml").read_text()
    data = f"source: azure_blob, account: {ACCOUNT}, container: flights, path: flights.csv, connection: {CONNECTION}"
    text = text.replace("source: file, path: flights.csv", data).replace("name: flights", "name: blob_flights")
    (experiments / "blob_flights.yaml").write_text(text)
    events = airflow.home / "events"
    events.mkdir()
    settings = f"spark.eventLog.enabled true\nspark.eventLog.dir file://{events}\nspark.ui.port {UI_PORT}\n"
    defaults = airflow.home / "spark" / "spark-defaults.conf"
    before = defaults.read_text()
    # Spark's own redaction is put out of action: what never gets there needs none.
    defaults.write_text(f"{before}\n{settings}spark.redaction.regex (?i)nothing-at-all\n")
    wait_until(lambda: DAG in str(airflow.call("GET", "/dags")), 120)
    whole = f"BlobEndpoint={url};AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY}"
    every = {
        "connection_string": whole,
        "sas_token": f"sv=2025-01-05&sp=rl&sig={quote(SIGNATURE, safe='')}",
        f"fs.azure.account.key.{ACCOUNT}.blob.core.windows.net": WRONG_KEY,
    }
    found = []
    with watching() as watch:
        for connection in (
            {"login": ACCOUNT, "password": WRONG_KEY, "extra": every},
            {"host": url, "login": ACCOUNT, "password": ACCOUNT_KEY},
            {"host": url, "login": ACCOUNT, "password": WRONG_KEY},
        ):
            begin = log.stat().st_size
            run_id, state = ingest(airflow, connection)
            found.append((run_id, state, log.read_text()[begin:]))
    defaults.write_text(before)
    yield found, watch
    shutil.rmtree(events)
    (experiments / "blob_flights.yaml").unlink()


def test_blobs_are_read_as_whom_the_connection_says(airflow, runs):
    found, _ = runs
    assert [state for _, state, _ in found] == ["success", "success", "failed"]


def test_a_second_run_reads_no_body_of_an_unchanged_blob(airflow, runs):
    (_, _, first), (_, _, second), _ = runs[0]
    assert '"GET /devstoreaccount1/flights/flights.csv HTTP/1.1" 206' in first
    assert "flights.csv" in second
    assert '"GET /devstoreaccount1/flights/flights.csv' not in second


def test_a_refused_credential_is_named_and_not_tried_again(airflow, runs):
    run_id = runs[0][2][0]
    task = airflow.tasks(DAG, run_id)["ingest"]
    assert task["try_number"] == 1
    logs = "".join(path.read_text() for path in airflow.home.glob(f"airflow/logs/**/*{run_id}*/**/*.log"))
    assert f"the credential of connection '{CONNECTION}' is refused; check its key or token" in logs


def test_what_could_be_seen_was_looked_at(airflow, runs):
    _, watch = runs
    assert any(b"--credentials" in line for line in watch.processes)
    assert any(b"spark.eventLog.dir" in page for page in watch.pages["environment/"])
    assert list((airflow.home / "events").iterdir())


def test_no_secret_is_in_a_command_line_an_environment_or_a_page_of_spark(runs):
    _, watch = runs
    for spelling in SPELLINGS:
        assert [line for line in watch.processes if spelling in line] == []
        assert [name for name, seen in watch.pages.items() if any(spelling in page for page in seen)] == []


def test_no_secret_is_in_any_file(airflow, runs):
    """Logs, rendered templates and XComs (Airflow's database), event logs, MLflow's database and artifacts, data."""
    looked_at = set()
    for path in airflow.home.parent.rglob("*"):
        if not path.is_file() or path.is_symlink() or path.suffix == ".jar":
            continue
        body = path.read_bytes()
        looked_at.add(path.name)
        assert [spelling for spelling in SPELLINGS if spelling in body] == [], path
    assert {"airflow.db", "mlflow.db", "experiment.json", "attempt=1.log", "blob.csv"} <= looked_at
    assert any(name.startswith("local-") for name in looked_at), "of the event logs"
