"""`pipeline`: the five stages in order, each by spark-submit, without Airflow."""

from __future__ import annotations

import argparse
import logging
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mlflow.tracking import MlflowClient

from retune.errors import RetuneError, TrialHung
from retune.experiment_file import parse_params, read_experiment
from retune.run_tree import STAGES, end_pipeline, find_pipeline, kill_stage, lease_stage
from retune.tracking import connect

log = logging.getLogger(__name__)
_JOBS = Path(__file__).resolve().parents[2]


class StageFailed(RetuneError):
    """A stage's job ended with an exit code other than 0, which is the pipeline's as well."""

    def __init__(self, stage: str, code: int) -> None:
        super().__init__(f"{stage} ended with exit code {code}; its log is above")
        self.exit_code = code


def run(argv: Sequence[str]) -> None:
    """Run all stages of an experiment in a pipeline run of their own.

    Raises:
        BadInput: The experiment or the parameters are wrong.
        StageFailed: A stage did.
    """
    parser = argparse.ArgumentParser(prog="pipeline", description="Run the five stages in order, without Airflow.")
    parser.add_argument("--experiment", required=True, metavar="FILE", help="the experiment file")
    parser.add_argument("--params", default="{}", metavar="JSON", help='what this run changes: {"max_trials": 4}')
    args = parser.parse_args(argv)
    experiment = read_experiment(args.experiment, parse_params(args.params)).mlflow_experiment
    client, made = connect(), f"by-hand-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%f}"
    given = ["--experiment", args.experiment, "--params", args.params]
    upstream = None
    try:
        for stage in STAGES:
            upstream = _run_stage(client, experiment, stage, made, upstream, given)
            given = ["--upstream-run-id", upstream]
    except BaseException:
        if pipeline := find_pipeline(client, experiment, made):
            end_pipeline(client, pipeline, "FAILED")
        raise


def _run_stage(
    client: MlflowClient, experiment: str, stage: str, made: str, upstream: str | None, given: Sequence[str]
) -> str:
    """Submit a stage's job, again where a trial hung; return its run's id."""
    while True:
        lease = lease_stage(client, experiment, stage, made, upstream)
        own = ["--run-id", lease.run_id, "--attempt", str(lease.attempt)]
        command = ["spark-submit", "--name", f"{experiment} {stage}", str(_JOBS / f"{stage}.py"), *given, *own]
        try:
            code = subprocess.run(command, check=False).returncode
        except BaseException:
            kill_stage(client, lease)  # a signal has ended this process, and the job with it
            raise
        if code == 0:
            return lease.run_id
        kill_stage(client, lease)  # what a job that was killed has left RUNNING
        # As a shell tells of a process that a signal ended.
        code = 128 - code if code < 0 else code
        if code not in TrialHung.exit_codes:
            raise StageFailed(stage, code)
        log.warning("%s ended with exit code %d, since a trial hung; submitting it again", stage, code)
