"""What a DAG run's end means for its pipeline run in MLflow."""

from __future__ import annotations

from typing import Any


def finish_pipeline(context: Any) -> None:
    """End the pipeline run of a DAG run that succeeded FINISHED.

    Mostly `evaluate` has done so; but a task before it may have been cleared alone, which set the pipeline RUNNING.
    """
    _end_pipeline(context, "FINISHED")


def fail_pipeline(context: Any) -> None:
    """End the pipeline run of a failed DAG run FAILED."""
    _end_pipeline(context, "FAILED")


def _end_pipeline(context: Any, status: str) -> None:
    from retune.run_tree import end_pipeline, find_pipeline
    from retune.tracking import connect

    experiment = "retune/" + context["dag"].dag_id.removeprefix("retune_")
    client = connect()
    pipeline = find_pipeline(client, experiment, context["run_id"])
    if pipeline and pipeline.info.status != status:
        end_pipeline(client, pipeline, status)
