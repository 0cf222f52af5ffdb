"""What happens when a DAG run fails."""

from __future__ import annotations

from typing import Any


def fail_pipeline(context: Any) -> None:
    """End the pipeline run of a failed DAG run FAILED."""
    from retune.run_tree import end_pipeline, find_pipeline
    from retune.tracking import connect

    experiment = "retune/" + context["dag"].dag_id.removeprefix("retune_")
    client = connect()
    pipeline = find_pipeline(client, experiment, context["run_id"])
    if pipeline:
        end_pipeline(client, pipeline, "FAILED")
