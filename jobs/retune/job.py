"""What all five jobs share: arguments in, one stage run, exit code out."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from retune.errors import RetuneError, SparkLost, one_line
from retune.experiment_file import parse_params, read_experiment
from retune.search_section import ENGINES
from retune.settings import without_password
from retune.spark import exit_jvm, start_early

log = logging.getLogger("retune")


def build_parser(stage: str) -> argparse.ArgumentParser:
    """Return the argument parser of one stage's job."""
    parser = argparse.ArgumentParser(prog=f"{stage}.py", description=f"The {stage} stage of a retune experiment.")
    if stage == "ingest":
        parser.add_argument("--experiment", required=True, metavar="FILE", help="the experiment file")
        parser.add_argument("--params", default="{}", metavar="JSON", help='what this run changes: {"max_trials": 4}')
        parser.add_argument(
            "--credentials",
            type=Path,
            metavar="FILE",
            help="a file or pipe with the connection that data.connection names, as JSON like that of AIRFLOW_CONN_*",
        )
    else:
        parser.add_argument(
            "--upstream-run-id", required=True, metavar="ID", help="the FINISHED run of the stage before"
        )
    if stage == "tune":
        parser.add_argument(
            "--engine", choices=tuple(ENGINES), help="goes on with a search that another engine began; needs no new run"
        )
    parser.add_argument("--run-id", metavar="ID", help="the stage's own MLflow run; by default one is made")
    parser.add_argument("--attempt", type=int, default=1, help="which attempt of --run-id this is")
    return parser


def main(stage: str, argv: Sequence[str] | None = None) -> int:
    """Run one stage: find or make its MLflow run, do the work, end the run FINISHED or FAILED.

    Args:
        stage: One of `retune.run_tree.STAGES`.
        argv: The arguments; by default the process's own.

    Returns:
        0, or the exit code of what went wrong (see `retune.errors`).
    """
    args = build_parser(stage).parse_args(argv)
    set_up_logging()
    _end_with_parent()
    code = exit_code_of(stage, lambda: _run(stage, args))
    exit_jvm(code)
    return code


def _end_with_parent() -> None:
    """Below spark-submit, see to it that this process does not outlive the JVM that started it.

    A JVM that is killed leaves its Python side behind, which may take long to notice: in a fit of its own, say.
    """
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(SparkLost.exit_code)  # at once: whoever submits next may be at work in this stage's run already


def exit_code_of(name: str, work: Callable[[], None]) -> int:
    """Do `work`; return 0, or the exit code of what went wrong, which the log tells by `name`."""
    try:
        work()
    except RetuneError as error:
        log.error("%s: %s", name, without_password(one_line(error)))
        return error.exit_code
    except Exception as error:
        print(without_password(traceback.format_exc()), flush=True)
        log.error("%s: %s", name, without_password(one_line(error)))
        return RetuneError.exit_code
    return 0


def _run(stage: str, args: argparse.Namespace) -> None:
    if args.run_id and _reads_well(stage, args):
        start_early()  # the JVM and Python's import of MLflow take about as long: side by side, not in a row
    import_module("retune.stage_run").run_stage(stage, args)


def _reads_well(stage: str, args: argparse.Namespace) -> bool:
    """Return whether no bad input is in sight that should be told of before a session starts.

    What only MLflow can tell, the operator has checked; an error found here, `run_stage` meets again and writes down.
    """
    if stage != "ingest":
        return True
    from retune.functions import check_functions
    from retune.trainers import load_trainer  # brings libraries that the other stages need not wait for

    try:
        experiment = read_experiment(args.experiment, parse_params(args.params))
        trainer = load_trainer(experiment.model.trainer)
        trainer.require_installed()
        trainer.check(experiment)
        check_functions(experiment)
    except RetuneError:
        return False
    return True


def set_up_logging() -> None:
    """Log to standard output: retune's own steps, and warnings of all others."""
    logging.basicConfig(
        stream=sys.stdout, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    log.setLevel(logging.INFO)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # warns that a uv environment has no pip
    logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)  # warns at each model that it is pickled
