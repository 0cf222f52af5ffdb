"""`make demo`: one run of an experiment's whole DAG by Airflow, here and now, ending with a readable summary."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from retune import settings
from retune.errors import BadInput, RetuneError
from retune.experiment import Experiment
from retune.experiment_file import find_experiments, read_experiment
from retune_airflow.processes import end_processes, process_tree
from scheduler_lock import SchedulerRuns, hold_scheduler_lock

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

# What a user wants to see of Airflow's log: the jobs' own lines, and where each stage starts.
_JOB_LINE = re.compile(r"\] (\d\d:\d\d:\d\d (?:INFO|WARNING|ERROR) .*?)(?: \[airflow\.task\.hooks.*)?$")
_STAGE_LINE = re.compile(r"\[DAG TEST\] starting task_id=(\w+)")
_TAIL = 30


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else "diabetes"
    folder = settings.experiments_folder()
    try:
        names = [path.stem for path in find_experiments(folder)]
        if name not in names:
            raise BadInput(f"EXPERIMENT = {name}: is none of those in {folder}: {', '.join(names) or 'there are none'}")
        experiment = read_experiment(folder / f"{name}.yaml")
    except RetuneError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    started = datetime.now(UTC)
    log = settings.home() / "logs" / f"demo-{name}-{started:%Y-%m-%dT%H-%M-%S}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with hold_scheduler_lock(settings.home(), shared=True):
            print(f"Airflow runs the DAG {experiment.dag_id}; its whole log: {log}", flush=True)
            code = _run_dag(experiment.dag_id, log)
    except SchedulerRuns:
        print(
            f"`make ui` runs for {settings.home()}, and its scheduler would take this run's tasks: trigger "
            f"{experiment.dag_id} there, or end it first, or set another RETUNE_HOME",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nStopping ...", flush=True)
        _give_up(experiment, started)
        return 130
    if code == 0:
        code = _print_summary(experiment.mlflow_experiment, started)
    if code:
        print("".join(log.read_text(errors="replace").splitlines(keepends=True)[-_TAIL:]), file=sys.stderr)
        print(f"The run of {experiment.dag_id} failed; the whole log is {log}", file=sys.stderr)
        print(_last_error(log), file=sys.stderr)
    return code


def _last_error(log: Path) -> str:
    """Return the last line in which a job says what went wrong."""
    found = [match[1] for line in log.read_text(errors="replace").splitlines() if (match := _JOB_LINE.search(line))]
    return next((line for line in reversed(found) if " ERROR " in line), "")


def _run_dag(dag_id: str, log: Path) -> int:
    command = ["airflow", "dags", "test", dag_id]
    with log.open("w") as whole:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        assert process.stdout is not None
        try:
            _show_progress(process.stdout, whole.write)
            return process.wait()
        except KeyboardInterrupt:  # of which Airflow was told too, but takes it for a failure to try again after
            end_processes(process_tree(process.pid))
            raise


def _show_progress(lines: Iterable[str], keep: Callable[[str], object]) -> None:
    began = time.monotonic()
    for line in lines:
        keep(line)
        if match := _STAGE_LINE.search(line):
            print(f"\n== {match[1]}, after {time.monotonic() - began:.0f} s", flush=True)
        elif match := _JOB_LINE.search(line):
            print(match[1], flush=True)


def _print_summary(mlflow_experiment: str, started: datetime) -> int:
    """Print the summary of the pipeline run that began after `started`; return 1 unless it is FINISHED."""
    from retune import report
    from retune.tracking import connect

    client = connect()
    pipeline = _find_pipeline(client, mlflow_experiment, started)
    if pipeline is None:
        return 1
    print("\n" + report.build_summary(client, pipeline.info.run_id))
    if pipeline.info.status != "FINISHED":
        return 1
    print("Look around: `make ui` starts the Airflow and MLflow UIs and prints their addresses.")
    return 0


def _find_pipeline(client: MlflowClient, mlflow_experiment: str, started: datetime) -> Run | None:
    from retune import run_tree
    from retune.tracking import search_all

    found = client.get_experiment_by_name(mlflow_experiment)
    pipelines = search_all(client, found.experiment_id, f"tags.`{run_tree.STAGE}` = 'pipeline'") if found else []
    return pipelines[-1] if pipelines and pipelines[-1].info.start_time >= started.timestamp() * 1000 else None


def _give_up(experiment: Experiment, started: datetime) -> None:
    """End FAILED what the interrupted DAG run left running: nobody else would, and a later `make ui` would go on."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState

    from retune import run_tree
    from retune.tracking import connect

    client = connect()
    if pipeline := _find_pipeline(client, experiment.mlflow_experiment, started):
        run_tree.end_pipeline(client, pipeline, "FAILED")
    with create_session() as session:
        for dag_run in DagRun.find(dag_id=experiment.dag_id, state=DagRunState.RUNNING, session=session):
            if dag_run.start_date >= started:
                dag_run.set_state(DagRunState.FAILED)
                for task in dag_run.get_task_instances(state=[TaskInstanceState.RUNNING], session=session):
                    task.set_state(TaskInstanceState.FAILED, session=session)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
