"""Experiment files become DAGs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from retune.experiment import Experiment
from retune.experiment_file import find_experiments, read_experiment
from retune.mistakes import ExperimentError, Mistake
from retune_airflow.broken import BrokenExperimentOperator
from retune_airflow.callbacks import fail_pipeline, finish_pipeline
from retune_airflow.docs import describe_broken, describe_experiment
from retune_airflow.operator import StageOperator
from retune_airflow.params import JOB_PARAMS, build_params

STAGES = ("ingest", "featurize", "tune", "retrain", "evaluate")
_START = datetime(2024, 1, 1, tzinfo=UTC)
_LONGEST_DAG_ID = 240  # Airflow takes 250
_LONGEST_RETRY_DELAY = timedelta(minutes=30)


def build_dags(folder: Path) -> dict[str, DAG]:
    """Build one DAG for each experiment file in `folder`; a broken one becomes a DAG that says so.

    Returns:
        DAGs by id.

    Raises:
        BadInput: The folder does not exist.
    """
    dags = (_build(path) for path in find_experiments(folder))
    return {dag.dag_id: dag for dag in dags}


def _build(path: Path) -> DAG:
    try:
        return build_dag(read_experiment(path), path)
    except ExperimentError as error:
        return build_broken_dag(path, error)
    except Exception as error:  # an import error would take the other files' DAGs with it
        rule = f"Airflow cannot make a DAG of it: {type(error).__name__}: {error}"
        return build_broken_dag(path, ExperimentError(path, [Mistake(None, "", None, rule)]))


def build_dag(experiment: Experiment, path: Path) -> DAG:
    """Build the DAG of a valid experiment: `ingest → featurize → tune → retrain → evaluate`."""
    airflow = experiment.airflow
    with DAG(
        dag_id=experiment.dag_id,
        description=experiment.description,
        doc_md=describe_experiment(experiment, path),
        schedule=experiment.schedule,
        start_date=_START,
        catchup=False,
        max_active_runs=1,
        # A run that somebody triggers should start; a schedule waits until somebody turns it on.
        is_paused_upon_creation=experiment.schedule is not None,
        tags={"retune", experiment.problem, experiment.model.trainer, *airflow.tags},
        params=build_params(experiment),
        on_success_callback=finish_pipeline,
        on_failure_callback=fail_pipeline,
        default_args={
            "owner": airflow.owner,
            "retries": airflow.retries,
            "retry_delay": timedelta(seconds=airflow.retry_delay),
            "retry_exponential_backoff": True,
            "max_retry_delay": max(_LONGEST_RETRY_DELAY, timedelta(seconds=airflow.retry_delay)),
            "execution_timeout": timedelta(seconds=airflow.stage_timeout),
        },
    ) as dag:
        first = ["--experiment", str(path), "--params", JOB_PARAMS]
        tasks = [StageOperator(stage=STAGES[0], job_args=first, **_resources(experiment, STAGES[0]))]
        for before, stage in pairwise(STAGES):
            upstream = f"{{{{ ti.xcom_pull(task_ids='{before}') }}}}"
            job_args = ["--upstream-run-id", upstream]
            tasks.append(StageOperator(stage=stage, job_args=job_args, **_resources(experiment, stage)))
        for before_task, task in pairwise(tasks):
            before_task >> task
    return dag


def _resources(experiment: Experiment, stage: str) -> dict[str, Any]:
    """Return what a stage asks of the cluster, by SparkSubmitOperator's names."""
    asked = experiment.airflow.resources_of(stage)
    executors = asked.pop("executors", None)
    if executors is None:
        return asked
    # A standalone cluster knows no number of executors, but how many cores all of them may take; the others ignore it.
    cores = {"total_executor_cores": executors * asked["executor_cores"]} if "executor_cores" in asked else {}
    return {**asked, "num_executors": executors, **cores}


def build_broken_dag(path: Path, error: ExperimentError) -> DAG:
    """Build the DAG that stands for a broken experiment file: no schedule, and one task that fails with the reasons."""
    arguments: dict[str, Any] = {"owner": "retune", "retries": 0}
    with DAG(
        dag_id=("retune_" + re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem))[:_LONGEST_DAG_ID],
        description=f"{path.name} cannot be used",
        doc_md=describe_broken(path, error),
        schedule=None,
        start_date=_START,
        catchup=False,
        tags={"retune", "broken"},
        default_args=arguments,
    ) as dag:
        BrokenExperimentOperator(task_id="broken_experiment", reasons=str(error))
    return dag
