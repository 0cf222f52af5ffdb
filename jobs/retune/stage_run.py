"""One stage's work inside its MLflow run."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module

from mlflow.tracking import MlflowClient

from retune.errors import Superseded, one_line
from retune.experiment import Experiment
from retune.experiment_file import change_engine, parse_params, read_experiment
from retune.handoff import lease_after, open_stage
from retune.report import close_pipeline
from retune.run_tree import PARENT, STAGES, Lease, end_pipeline, end_stage, lease_stage
from retune.settings import without_password
from retune.tracking import connect

log = logging.getLogger(__name__)


def run_stage(stage: str, args: argparse.Namespace) -> None:
    """Find or make the stage's MLflow run, do the work, end the run FINISHED or FAILED.

    Args:
        stage: One of `STAGES`.
        args: As `retune.job.build_parser` has them.
    """
    client = connect()
    lease = Lease(args.run_id, args.attempt) if args.run_id else None
    try:
        resolved = read_experiment(args.experiment, parse_params(args.params)) if stage == "ingest" else None
        lease = lease or _lease_by_hand(client, stage, resolved, args)
        if lease.finished:
            log.info("%s was FINISHED before; nothing to do", stage)
        else:
            log.info("%s run %s, attempt %d", stage, lease.run_id, lease.attempt)
            opened = open_stage(client, stage, lease, resolved, getattr(args, "credentials", None))
            if engine := getattr(args, "engine", None):
                opened = replace(opened, experiment=change_engine(opened.experiment, engine))
            import_module(f"retune.stages.{stage}").run(opened)
            end_stage(client, lease)
        if stage == STAGES[-1]:
            close_pipeline(client, lease.run_id)
        log.info("%s done: run %s", stage, lease.run_id)
    except Superseded:
        raise  # the run is another attempt's now
    except BaseException as error:
        if lease:
            _end_failed(client, lease, error, by_hand=not args.run_id)
        raise


def _lease_by_hand(client: MlflowClient, stage: str, resolved: Experiment | None, args: argparse.Namespace) -> Lease:
    if resolved is None:
        return lease_after(client, stage, args.upstream_run_id)
    by_hand = f"by-hand-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%f}"
    return lease_stage(client, resolved.mlflow_experiment, stage, by_hand)


def _end_failed(client: MlflowClient, lease: Lease, error: BaseException, by_hand: bool) -> None:
    """End the run FAILED, and by hand its pipeline run, which is else the DAG's business.

    That this fails too, say because MLflow is away, must not hide the first error.
    """
    try:
        end_stage(client, lease, without_password(one_line(error)))
        if by_hand:
            end_pipeline(client, client.get_run(client.get_run(lease.run_id).data.tags[PARENT]), "FAILED")
    except Exception as second:
        log.warning("run %s could not be marked FAILED: %s", lease.run_id, without_password(one_line(second)))
