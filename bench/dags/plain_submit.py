"""What DAG parsing is measured against: one plain SparkSubmitOperator."""

from datetime import UTC, datetime

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG

with DAG(dag_id="bench_plain_submit", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC), catchup=False):
    SparkSubmitOperator(task_id="submit", application="job.py")
