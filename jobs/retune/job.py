"""What all five jobs share: arguments in, one stage run, exit code out."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from mlflow.tracking import MlflowClient

from retune.errors import RetuneError, Superseded, root_cause
from retune.experiment import Experiment
from retune.experiment_file import parse_params, read_experiment
from retune.handoff import Stage, lease_after, open_stage
from retune.report import close_pipeline
from retune.run_tree import PARENT, STAGES, Lease, end_pipeline, end_stage, lease_stage
from retune.settings import without_password
from retune.spark import exit_jvm
from retune.tracking import connect

log = logging.getLogger("retune")


def build_parser(stage: str) -> argparse.ArgumentParser:
    """Return the argument parser of one stage's job."""
    parser = argparse.ArgumentParser(prog=f"{stage}.py", description=f"The {stage} stage of a retune experiment.")
    if stage == "ingest":
        parser.add_argument("--experiment", required=True, metavar="FILE", help="the experiment file")
        parser.add_argument("--params", default="{}", metavar="JSON", help='what this run changes: {"max_trials": 4}')
    else:
        parser.add_argument(
            "--upstream-run-id", required=True, metavar="ID", help="the FINISHED run of the stage before"
        )
    parser.add_argument("--run-id", metavar="ID", help="the stage's own MLflow run; by default one is made")
    parser.add_argument("--attempt", type=int, default=1, help="which attempt of --run-id this is")
    return parser


def main(stage: str, work: Callable[[Stage], None], argv: Sequence[str] | None = None) -> int:
    """Run one stage: find or make its MLflow run, do the work, end the run FINISHED or FAILED.

    Args:
        stage: One of `retune.run_tree.STAGES`.
        work: What the stage does.
        argv: The arguments; by default the process's own.

    Returns:
        0, or the exit code of what went wrong (see `retune.errors`).
    """
    args = build_parser(stage).parse_args(argv)
    _set_up_logging()
    code = _exit_code(stage, work, args)
    exit_jvm(code)
    return code


def _exit_code(stage: str, work: Callable[[Stage], None], args: argparse.Namespace) -> int:
    try:
        _run(connect(), stage, work, args)
    except RetuneError as error:
        log.error("%s: %s", stage, _one_line(error))
        return error.exit_code
    except Exception as error:
        print(without_password(traceback.format_exc()), flush=True)
        log.error("%s: %s", stage, _one_line(error))
        return RetuneError.exit_code
    return 0


def _run(client: MlflowClient, stage: str, work: Callable[[Stage], None], args: argparse.Namespace) -> None:
    lease = Lease(args.run_id, args.attempt) if args.run_id else None
    try:
        resolved = read_experiment(args.experiment, parse_params(args.params)) if stage == "ingest" else None
        lease = lease or _lease_by_hand(client, stage, resolved, args)
        if lease.finished:
            log.info("%s was FINISHED before; nothing to do", stage)
        else:
            log.info("%s run %s, attempt %d", stage, lease.run_id, lease.attempt)
            work(open_stage(client, stage, lease, resolved))
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
        end_stage(client, lease, _one_line(error))
        if by_hand:
            end_pipeline(client, client.get_run(client.get_run(lease.run_id).data.tags[PARENT]), "FAILED")
    except Exception as second:
        log.warning("run %s could not be marked FAILED: %s", lease.run_id, _one_line(second))


def _one_line(error: BaseException) -> str:
    text = without_password(root_cause(error))
    return text if isinstance(error, RetuneError) else f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"


def _set_up_logging() -> None:
    logging.basicConfig(
        stream=sys.stdout, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    log.setLevel(logging.INFO)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # warns that a uv environment has no pip
