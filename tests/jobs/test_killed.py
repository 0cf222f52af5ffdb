"""A tune job killed in the middle of its search, and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from contextlib import suppress

import psutil
from flights import EXPERIMENT, write_flights
from jobs.conftest import Jobs


def kill_after(jobs, trials, *args):
    """Start tune and SIGKILL its whole process group once it has reported `trials` trials; return what it printed."""
    job = jobs.start("tune", *args)
    guard = threading.Timer(300, os.killpg, (job.pid, signal.SIGKILL))
    guard.start()
    printed = []
    for line in job.stdout:
        printed.append(line)
        if f" {trials}/4  trial" in line:
            os.killpg(job.pid, signal.SIGKILL)
    guard.cancel()
    job.wait()
    return "".join(printed)


def driver_of(jvm_pid):
    """Return the Python driver of a spark-submit; its JVM starts short-lived helpers of its own beside it."""
    drivers = []
    for child in psutil.Process(jvm_pid).children():
        with suppress(psutil.NoSuchProcess):  # a helper that has just ended
            if "tune.py" in " ".join(child.cmdline()):
                drivers.append(child)
    (driver,) = drivers
    return driver


def test_a_killed_search_goes_on_in_the_same_run_and_loses_no_trial(tmp_path, chain):
    jobs = Jobs(tmp_path / "home")
    experiment = write_flights(tmp_path)
    experiment.write_text(EXPERIMENT)
    jobs.run("ingest", "--experiment", str(experiment))
    jobs.run("featurize", "--upstream-run-id", jobs.runs["ingest"])
    upstream = ("--upstream-run-id", jobs.runs["featurize"])
    printed = kill_after(jobs, 2, *upstream)
    assert " 2/4  trial 1" in printed
    again = jobs.run("tune", *upstream)
    assert "resuming after 2 trials" in again

    client = jobs.client
    (experiment_id,) = [e.experiment_id for e in client.search_experiments() if e.name == "retune/flights"]
    (tune,) = client.search_runs([experiment_id], "tags.`retune.stage` = 'tune'")
    assert (tune.info.status, tune.data.tags["retune.attempt"]) == ("FINISHED", "2")
    trials = client.search_runs(
        [experiment_id], "tags.`retune.stage` = 'trial'", order_by=["attributes.start_time ASC"]
    )
    finished = [run for run in trials if run.info.status == "FINISHED"]
    assert [run.data.tags["retune.trial"] for run in finished] == ["0", "1", "2", "3"]
    assert {run.info.status for run in trials} <= {"FINISHED", "KILLED"}
    # The interrupted search proposed what the uninterrupted one of the chain did.
    uninterrupted = [
        json.loads(run.data.tags["retune.setting"])
        for run in chain.client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{chain.runs['tune']}'")
    ]
    assert sorted(map(str, uninterrupted)) == sorted(
        str(json.loads(run.data.tags["retune.setting"])) for run in finished
    )


def test_a_thread_that_a_library_left_behind_does_not_keep_the_job_alive(tmp_path):
    """As SynapseML does: each fit leaves a pool of one thread that keeps a JVM from ending."""
    script = tmp_path / "leaky.py"
    script.write_text(
        "import sys\n"
        "from retune.job import main\n"
        "from retune.stages import ingest\n"
        "from retune.spark import spark_session\n"
        "def leak(stage):\n"
        "    with spark_session('leaky') as spark:\n"
        "        pool = spark._jvm.java.util.concurrent.Executors.newFixedThreadPool(1)\n"
        "        pool.submit(spark._jvm.java.lang.Thread())\n"
        "        main.pool = pool\n"
        "ingest.run = leak\n"
        "sys.exit(main('ingest'))\n"
    )
    jobs = Jobs(tmp_path / "home")
    experiment = write_flights(tmp_path, rows=20)
    command = ["spark-submit", "--master", "local[1]", str(script), "--experiment", str(experiment)]
    done = subprocess.run(command, env=jobs.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "ingest done" in done.stdout


def test_a_driver_whose_jvm_was_killed_blames_no_trial(tmp_path):
    """The Python side outlives its JVM for a moment; it must not write that moment down as failed trials."""
    jobs = Jobs(tmp_path / "home")
    jobs.run("ingest", "--experiment", str(write_flights(tmp_path)))
    jobs.run("featurize", "--upstream-run-id", jobs.runs["ingest"])
    job = jobs.start("tune", "--upstream-run-id", jobs.runs["featurize"])
    driver = None
    for line in job.stdout:
        if " 1/4  trial" in line:
            driver = driver_of(job.pid)
            job.kill()  # the JVM alone
            break
    psutil.wait_procs([driver], timeout=60)
    assert not driver.is_running()
    client = jobs.client
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "retune/flights"]
    trials = client.search_runs([experiment], "tags.`retune.stage` = 'trial'")
    assert "FAILED" not in {trial.info.status for trial in trials}
