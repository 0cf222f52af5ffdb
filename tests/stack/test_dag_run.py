"""One DAG run by a real scheduler in which things go wrong: a killed job, a lost worker, a cleared task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
from stack.conftest import ROOT, Airflow, wait_until

DAG = "retune_flights"
STAGES = ("ingest", "featurize", "tune", "retrain", "evaluate")


def find_driver(airflow: Airflow, stage: str) -> psutil.Process | None:
    """Return the spark-submit process of a running stage of this Airflow."""
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = " ".join(process.info["cmdline"] or [])
        of_ours = (process.info["environ"] or {}).get("RETUNE_HOME") == str(airflow.home)
        if of_ours and "org.apache.spark.deploy.SparkSubmit" in command and f"/{stage}.py" in command:
            return process
    return None


def lose_worker(driver: psutil.Process) -> None:
    """SIGKILL the task's own process and its supervisor, but not the job."""
    task = driver.parent()
    while "airflow" not in " ".join(task.cmdline()):
        task = task.parent()
    for process in (task.parent(), task):
        process.kill()


@pytest.fixture(scope="module")
def dag_run(airflow):
    """A run whose featurize loses its worker and whose tune is killed after two trials."""
    wait_until(lambda: DAG in str(airflow.call("GET", "/dags")), 120)
    run_id = airflow.trigger(DAG, max_trials=3)
    link_while_running = wait_until(lambda: airflow.xcom(DAG, run_id, "ingest", "_link_MlflowRunLink"), 120)
    state_then = airflow.tasks(DAG, run_id)["ingest"]["state"]

    # Late, so that the job is done before Airflow notices; were it not, the retry would rightly take over from it.
    lost = wait_until(lambda: find_driver(airflow, "featurize"), 200, 0.1)
    wait_until(lambda: list(airflow.home.glob("data/flights/*/*/features")), 200, 0.1)
    lose_worker(lost)
    wait_until(lambda: airflow.runs("featurize", run_id)[0].info.status == "FINISHED", 200)

    killed = wait_until(lambda: find_driver(airflow, "tune"), 300, 0.1)
    wait_until(lambda: sum(run.info.status == "FINISHED" for run in airflow.runs("trial", run_id)) >= 1, 200, 0.1)
    killed.kill()

    state = airflow.wait_for_end(DAG, run_id)
    assert state == "success", json.dumps(airflow.tasks(DAG, run_id), indent=1)
    return run_id, link_while_running, state_then


def test_every_task_hands_on_a_finished_run(airflow, dag_run):
    run_id, *_ = dag_run
    tasks = airflow.tasks(DAG, run_id)
    assert {name: task["state"] for name, task in tasks.items()} == dict.fromkeys(STAGES, "success")
    for stage in STAGES:
        run = airflow.mlflow.get_run(airflow.xcom(DAG, run_id, stage))
        assert (run.info.status, run.data.tags["retune.stage"]) == ("FINISHED", stage)


def test_the_link_to_mlflow_is_there_while_the_job_runs(airflow, dag_run):
    run_id, link, state_then = dag_run
    assert state_then == "running"
    assert f"/runs/{airflow.xcom(DAG, run_id, 'ingest')}?" in link


def test_the_run_tree_has_one_live_run_a_stage(airflow, dag_run):
    run_id, *_ = dag_run
    (pipeline,) = airflow.runs("pipeline", run_id)
    assert pipeline.info.status == "FINISHED"
    for stage in STAGES:
        (run,) = airflow.runs(stage, run_id)
        assert run.data.tags["mlflow.parentRunId"] == pipeline.info.run_id


def test_a_job_that_finished_while_the_worker_was_lost_was_adopted(airflow, dag_run):
    run_id, *_ = dag_run
    (run,) = airflow.runs("featurize", run_id, live=False)
    assert run.data.tags["retune.attempt"] == "1"
    assert airflow.tasks(DAG, run_id)["featurize"]["try_number"] == 2


def test_a_killed_job_went_on_in_its_run(airflow, dag_run):
    run_id, *_ = dag_run
    (run,) = airflow.runs("tune", run_id, live=False)
    assert run.data.tags["retune.attempt"] == "2"
    assert airflow.tasks(DAG, run_id)["tune"]["try_number"] == 2
    finished = [trial for trial in airflow.runs("trial", run_id) if trial.info.status == "FINISHED"]
    assert sorted(trial.data.tags["retune.trial"] for trial in finished) == ["0", "1", "2"]


def test_clearing_a_finished_task_runs_it_and_what_follows_anew(airflow, dag_run):
    run_id, *_ = dag_run
    before = {stage: airflow.xcom(DAG, run_id, stage) for stage in STAGES}
    clear = {"dry_run": False, "dag_run_id": run_id, "task_ids": ["retrain"], "include_downstream": True}
    airflow.call("POST", f"/dags/{DAG}/clearTaskInstances", {**clear, "only_failed": False, "reset_dag_runs": True})
    time.sleep(2)
    assert airflow.wait_for_end(DAG, run_id) == "success"
    after = {stage: airflow.xcom(DAG, run_id, stage) for stage in STAGES}
    assert [stage for stage in STAGES if before[stage] != after[stage]] == ["retrain", "evaluate"]
    for stage in STAGES:
        (live,) = airflow.runs(stage, run_id)
        assert (live.info.run_id, live.info.status) == (after[stage], "FINISHED")
    old = airflow.mlflow.get_run(before["retrain"])
    assert (old.info.status, old.data.tags["retune.superseded_by"]) == ("FINISHED", after["retrain"])
    (pipeline,) = airflow.runs("pipeline", run_id)
    assert pipeline.info.status == "FINISHED"
    decision = json.loads(airflow.mlflow.get_run(after["evaluate"]).data.tags["retune.promotion"])
    assert decision["champion"] == "1"
    assert not decision["promote"]


def test_a_task_that_is_cleared_alone_leaves_the_pipeline_finished(airflow, dag_run):
    run_id, *_ = dag_run
    before = airflow.xcom(DAG, run_id, "ingest")
    clear = {"dry_run": False, "dag_run_id": run_id, "task_ids": ["ingest"], "include_downstream": False}
    airflow.call("POST", f"/dags/{DAG}/clearTaskInstances", {**clear, "only_failed": False, "reset_dag_runs": True})
    time.sleep(2)
    assert airflow.wait_for_end(DAG, run_id) == "success"
    assert airflow.xcom(DAG, run_id, "ingest") != before
    wait_until(lambda: airflow.runs("pipeline", run_id)[0].info.status == "FINISHED", 60)


def test_the_demo_does_not_get_in_the_way_of_a_scheduler(airflow):
    environment = {**os.environ, "RETUNE_HOME": str(airflow.home), "RETUNE_EXPERIMENTS": str(ROOT / "experiments")}
    demo = subprocess.run(
        [sys.executable, ROOT / "local" / "demo.py", "diabetes"], env=environment, capture_output=True, text=True
    )
    assert demo.returncode == 1
    assert f"`make ui` runs for {airflow.home}, and its scheduler would take" in demo.stderr
    assert "trigger retune_diabetes there" in demo.stderr


def test_bad_input_is_not_retried_and_fails_the_pipeline(airflow, dag_run):
    run_id = airflow.trigger(DAG, data_path="file:///nowhere/none.csv")
    assert airflow.wait_for_end(DAG, run_id) == "failed"
    ingest = airflow.tasks(DAG, run_id)["ingest"]
    assert (ingest["state"], ingest["try_number"]) == ("failed", 1)
    (run,) = airflow.runs("ingest", run_id)
    assert run.info.status == "FAILED"
    assert "none.csv" in run.data.tags["retune.error"]
    wait_until(lambda: airflow.runs("pipeline", run_id)[0].info.status == "FAILED", 60)
