"""The stage operator: a Spark submit that has an MLflow run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import BaseHook, BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from retune import settings
from retune.errors import BadInput
from retune.experiment_file import parse_params, read_experiment
from retune_airflow.archive import build_archive

_JOBS = Path(settings.__file__).parents[1]


class MlflowRunLink(BaseOperatorLink):
    """The button that leads from a task to its MLflow run."""

    name = "MLflow run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address that `StageOperator.execute` found; Airflow asks after the task has ended."""
        return getattr(operator, "mlflow_link", "")


class StageOperator(SparkSubmitOperator):
    """Runs one stage: finds or makes its MLflow run, submits the job, returns the run's id as XCom.

    A retry goes on in the run of the attempt before; a run that FINISHED although Airflow lost its worker is adopted;
    a task that was cleared gets a new run (see `retune.run_tree.lease_stage`).

    Args:
        stage: One of the five, also the task's id.
        job_args: The job's arguments but for its own run; templated.
    """

    operator_extra_links = (MlflowRunLink(),)
    overwrite_rtif_after_execution = True  # the rendered arguments shall show the run's id
    ui_color = "#e8f0fe"

    def __init__(self, *, stage: str, job_args: Sequence[str], **kwargs: Any) -> None:
        super().__init__(
            task_id=stage,
            application=str(_JOBS / f"{stage}.py"),
            application_args=list(job_args),
            name=f"{{{{ dag.dag_id }}}} {stage}",
            **kwargs,
        )
        self.stage = stage
        self.mlflow_link = ""

    def execute(self, context: Any) -> str:
        """Submit the job unless its run is FINISHED already; return the run's id.

        Raises:
            AirflowFailException: The input is bad, so that no retry can help.
        """
        args = dict(zip(self.application_args[::2], self.application_args[1::2], strict=True))
        self._conn_id = context["params"]["spark_conn_id"]
        self._check_params(args)
        lease = self._lease(context, args.get("--upstream-run-id"))
        if lease.finished:
            self.log.info("run %s is FINISHED already and is adopted; nothing to do", lease.run_id)
            self._close_pipeline(lease.run_id)
            return str(lease.run_id)
        self.application_args = [*self.application_args, "--run-id", lease.run_id, "--attempt", str(lease.attempt)]
        self.py_files = str(build_archive())
        try:
            super().execute(context)
        except AirflowException as error:
            self._raise_for(error)
        return str(lease.run_id)

    def _check_params(self, args: dict[str, str]) -> None:
        """Check what the trigger form says against the file before anything is submitted."""
        try:
            BaseHook.get_connection(self._conn_id)
        except AirflowNotFoundException as error:  # the hook would take it for "yarn"
            raise AirflowFailException(
                f"spark_conn_id = {self._conn_id!r}: Airflow has no such connection; add it, or name another"
            ) from error
        if "--experiment" in args:
            try:
                read_experiment(args["--experiment"], parse_params(args["--params"]))
            except BadInput as error:
                raise AirflowFailException(str(error)) from error

    def _lease(self, context: Any, upstream_run_id: str | None) -> Any:
        """Find or make the stage's MLflow run, and show the link to it before the job starts."""
        from retune.handoff import read_upstream
        from retune.run_tree import lease_stage
        from retune.tracking import connect

        client, ti = connect(), context["ti"]
        try:
            read_upstream(client, upstream_run_id, self.stage)
        except BadInput as error:
            raise AirflowFailException(str(error)) from error
        experiment = "retune/" + self.dag_id.removeprefix("retune_")
        lease = lease_stage(client, experiment, self.stage, context["run_id"], upstream_run_id, ti.max_tries)
        experiment_id = client.get_run(lease.run_id).info.experiment_id
        self.mlflow_link = f"{settings.mlflow_ui()}/#/experiments/{experiment_id}/runs/{lease.run_id}"
        ti.xcom_push(key=MlflowRunLink().xcom_key, value=self.mlflow_link)
        self.log.info("MLflow run: %s", self.mlflow_link)
        return lease

    def _close_pipeline(self, run_id: str) -> None:
        """Do what the job of the last stage does after it has FINISHED, in case it died in between."""
        if self.stage == "evaluate":
            from retune.report import close_pipeline
            from retune.tracking import connect

            close_pipeline(connect(), run_id)

    def _raise_for(self, error: AirflowException) -> None:
        """Tell bad input, which a retry would only meet again, from other failures."""
        code = re.search(r"Error code is: (\d+)", str(error))
        if code and int(code[1]) == BadInput.exit_code:
            raise AirflowFailException(
                f"{self.stage}: bad input, see the job's last line above; not retried"
            ) from error
        raise AirflowException(f"{self.stage}: the job ended with exit code {code[1] if code else '?'}") from error
