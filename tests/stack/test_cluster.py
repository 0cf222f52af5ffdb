"""The same DAG on a real standalone cluster with two workers: nothing but the Spark connection differs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.request

import pytest
from flights import write_flights
from stack.conftest import wait_until

DAG = "retune_flights"
LOOPBACK = "127.0.0.1"


def free_port():
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A master and two workers of one core each; yields their port and a function that reads the master's state."""
    port, web, folder = free_port(), free_port(), tmp_path_factory.mktemp("cluster")
    deploy = ["spark-class", "org.apache.spark.deploy"]
    master = [
        deploy[0],
        f"{deploy[1]}.master.Master",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
        "--webui-port",
        str(web),
    ]
    worker = [deploy[0], f"{deploy[1]}.worker.Worker", "--host", LOOPBACK, "--cores", "1", "--memory", "2g"]
    worker += ["--webui-port", "0", "--work-dir", str(folder), f"spark://{LOOPBACK}:{port}"]
    environment = {**os.environ, "SPARK_LOCAL_IP": LOOPBACK}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    processes = [subprocess.Popen(command, **quiet) for command in (master, worker, worker)]

    def state():
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{web}/json/", timeout=5) as answer:
                return json.loads(answer.read())
        except OSError:
            return {"aliveworkers": 0}

    wait_until(lambda: state()["aliveworkers"] == 2, 90)
    yield port, state
    for process in processes:
        process.kill()
        process.wait()


def test_the_same_dag_runs_on_two_workers(airflow, cluster):
    port, state = cluster
    # Enough rows that the fit is spread over both.
    data = write_flights(airflow.home.parent / "many", rows=40_000).with_suffix(".csv")
    connection = {"connection_id": "cluster", "conn_type": "spark", "host": f"spark://{LOOPBACK}", "port": port}
    airflow.call("POST", "/connections", connection)
    wait_until(lambda: DAG in str(airflow.call("GET", "/dags")), 120)
    run_id = airflow.trigger(DAG, spark_conn_id="cluster", max_trials=2, data_path=data.as_uri())
    assert airflow.wait_for_end(DAG, run_id, 900) == "success"

    applications = state()["completedapps"]
    assert sorted(app["name"] for app in applications) == [
        f"retune_flights {stage}" for stage in ("evaluate", "featurize", "ingest", "retrain", "tune")
    ]
    assert {app["cores"] for app in applications} == {2}
    (tune,) = airflow.runs("tune", run_id)
    assert tune.data.metrics["fit_partitions"] == 2
    rendered = airflow.tasks(DAG, run_id)["tune"]["rendered_fields"]
    assert rendered["py_files"].endswith(".zip")
    (evaluate,) = airflow.runs("evaluate", run_id)
    assert evaluate.data.metrics["challenger_test_accuracy"] > 0.8
