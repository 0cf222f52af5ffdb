"""Real stages by real spark-submit, for what a search does inside one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from measure import BenchError
from place import ROOT, Place

if TYPE_CHECKING:
    from retune.run_tree import Lease

_TAIL = 40
_clearings = count(1)


def prepare_search(place: Place, experiment: Path, **params: object) -> str:
    """Ingest and featurize; return the run that tune takes as its upstream.

    Args:
        place: Where.
        experiment: The experiment file.
        params: What this run changes, such as `max_trials`.
    """
    ingest = run_stage(place, "ingest", "--experiment", str(experiment), "--params", json.dumps(params))
    return run_stage(place, "featurize", "--upstream-run-id", ingest)


def lease_tune(place: Place, featurized: str) -> Lease:
    """Lease a tune run that starts anew, as the operator does for a task that was cleared."""
    from mlflow.tracking import MlflowClient

    from retune.run_tree import DAG_RUN, lease_stage

    client = MlflowClient(place.tracking_uri)
    upstream = client.get_run(featurized)
    experiment = client.get_experiment(upstream.info.experiment_id).name
    dag_run = upstream.data.tags[DAG_RUN]
    return lease_stage(client, experiment, "tune", dag_run, featurized, max_tries=next(_clearings))


def as_arguments(lease: Lease, featurized: str) -> list[str]:
    """Return what the operator gives the job of a lease."""
    return ["--upstream-run-id", featurized, "--run-id", lease.run_id, "--attempt", str(lease.attempt)]


def run_stage(
    place: Place, stage: str, *arguments: str, watch: Callable[[subprocess.Popen[str], str], None] | None = None
) -> str:
    """Run a stage to its end and return its run id.

    Args:
        place: Where.
        stage: Which.
        arguments: The job's own.
        watch: Is given the JVM's process and each line that the job prints, as it does.

    Raises:
        BenchError: It did not exit with 0, or did not say which run was its own.
    """
    command = ["spark-submit", "--master", "local[*]", str(ROOT / "jobs" / f"{stage}.py"), *arguments]
    printed: list[str] = []
    with subprocess.Popen(
        command, env=place.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as job:
        assert job.stdout
        try:
            for line in job.stdout:
                printed.append(line)
                if watch:
                    watch(job, line)
        except BaseException:
            job.kill()  # the JVM; its Python side ends with it
            raise
    _, done, run_id = "".join(printed).rpartition("done: run ")
    if job.returncode or not done:
        raise BenchError(f"{''.join(printed[-_TAIL:])}\n{stage}: exit code {job.returncode}")
    return run_id.split()[0]
