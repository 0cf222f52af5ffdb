"""The trigger form: what a single run may change, typed so that Airflow checks it before it starts."""

from __future__ import annotations

from airflow.sdk import Param

from retune.experiment import Experiment

JOB_PARAMS = (
    '{{ {"max_trials": params.max_trials, "timeout": params.timeout, "seed": params.seed, '
    '"data_path": params.data_path} | tojson }}'
)
"""What the ingest job is told of the form, as a template; the connection is the operator's business."""


def build_params(experiment: Experiment) -> dict[str, Param]:
    """Return the fields of the trigger form, filled in with what the experiment file says."""
    search = experiment.search
    return {
        "max_trials": Param(
            search.trials, type="integer", minimum=1, title="Trials",
            description="How many settings to try at most.",
        ),
        "timeout": Param(
            f"{search.timeout}s" if search.timeout else None,
            type=["null", "string"],
            pattern=r"^\d+\s*[smhd]$",
            title="Time limit of the search",
            description='No new trial starts after this, for example "30m"; empty: as the experiment file says.',
        ),
        "seed": Param(
            search.seed, type="integer", minimum=0, maximum=2**32 - 1, title="Seed of the search",
            description="The same seed on the same data tries the same settings.",
        ),
        "data_path": Param(
            None,
            type=["null", "string"],
            minLength=1,
            title="Data path",
            description="Read this file (CSV, JSON lines, Parquet) instead of the experiment's data; any Hadoop URI.",
        ),
        "spark_conn_id": Param(
            experiment.airflow.spark_conn_id, type="string", minLength=1, title="Spark connection",
            description="The Airflow connection that says where the jobs run.",
        ),
    }  # fmt: skip
