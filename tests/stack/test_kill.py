"""Airflow's kill of a running search: what "mark failed" in its UI leaves behind."""

from __future__ import annotations

import time

import psutil
from stack.conftest import Airflow, wait_until

DAG = "retune_flights"


def processes_of(airflow: Airflow, stage: str) -> list[psutil.Process]:
    """Return the spark-submit of a running stage of this Airflow, and all below it."""
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = " ".join(process.info["cmdline"] or [])
        of_ours = (process.info["environ"] or {}).get("RETUNE_HOME") == str(airflow.home)
        if of_ours and "org.apache.spark.deploy.SparkSubmit" in command and f"/{stage}.py" in command:
            return [process, *process.children(recursive=True)]
    return []


def is_there(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def statuses(airflow: Airflow, stage: str, run_id: str) -> set[str]:
    return {run.info.status for run in airflow.runs(stage, run_id)}


def kill(airflow: Airflow, run_id: str) -> tuple[float, float]:
    """Mark the running tune failed; return after how many seconds no process was left, and when its run was KILLED."""
    family = processes_of(airflow, "tune")
    assert family
    started = time.monotonic()
    airflow.call("PATCH", f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/tune", {"new_state": "failed"})
    wait_until(lambda: not any(is_there(process) for process in family), 30, 0.1)
    no_process = time.monotonic() - started
    wait_until(lambda: statuses(airflow, "tune", run_id) == {"KILLED"}, 30 - no_process, 0.1)
    killed = time.monotonic() - started
    assert processes_of(airflow, "tune") == []
    assert "RUNNING" not in statuses(airflow, "trial", run_id)
    assert airflow.tasks(DAG, run_id)["tune"]["state"] == "failed"
    return round(no_process, 1), round(killed, 1)


def attempt(airflow: Airflow, run_id: str) -> str:
    (tune,) = airflow.runs("tune", run_id)
    return str(tune.data.tags["retune.attempt"])


def test_a_search_marked_failed_ends_and_goes_on_when_it_is_cleared(airflow, record_property):
    wait_until(lambda: DAG in str(airflow.call("GET", "/dags")), 120)
    run_id = airflow.trigger(DAG, max_trials=60)
    wait_until(lambda: airflow.tasks(DAG, run_id)["tune"]["state"] == "running", 200)
    wait_until(lambda: "FINISHED" in statuses(airflow, "trial", run_id), 200, 0.1)
    record_property("seconds in a search", kill(airflow, run_id))
    assert airflow.wait_for_end(DAG, run_id, 60) == "failed"
    wait_until(lambda: statuses(airflow, "pipeline", run_id) == {"FAILED"}, 60)

    clear = {"dry_run": False, "dag_run_id": run_id, "task_ids": ["tune"], "include_downstream": True}
    airflow.call("POST", f"/dags/{DAG}/clearTaskInstances", {**clear, "only_failed": False, "reset_dag_runs": True})
    wait_until(lambda: attempt(airflow, run_id) == "2" and processes_of(airflow, "tune"), 60, 0.1)
    assert statuses(airflow, "tune", run_id) == statuses(airflow, "pipeline", run_id) == {"RUNNING"}
    record_property("seconds while Spark starts", kill(airflow, run_id))
    assert airflow.wait_for_end(DAG, run_id, 60) == "failed"
