"""What a whole DAG run is measured against: retune's five tasks in a row, with nothing to do."""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG

_JOB = str(Path(__file__).resolve().parents[1] / "noop_job.py")

with DAG(dag_id="bench_noop_jobs", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC), catchup=False):
    tasks = [
        SparkSubmitOperator(task_id=stage, application=_JOB, name=f"no-op {stage}")
        for stage in ("ingest", "featurize", "tune", "retrain", "evaluate")
    ]
    for before, task in pairwise(tasks):
        before >> task
