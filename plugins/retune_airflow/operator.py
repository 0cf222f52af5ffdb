"""The stage operator: a Spark submit that has an MLflow run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import BaseHook, BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from retune import settings
from retune.errors import BadInput, TrialHung
from retune.experiment_file import parse_params, read_experiment
from retune_airflow.archive import build_archive
from retune_airflow.credentials import offered
from retune_airflow.processes import end_processes, process_tree

if TYPE_CHECKING:
    from retune.run_tree import Lease

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
    a task that was cleared gets a new run (see `retune.run_tree.lease_stage`). A job that had to end because a trial
    hung is submitted again within the same try. Airflow's kill ends the job and leaves its run KILLED.

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
        self._data_connection: str | None = None
        self._leased: Lease | None = None
        self._killed = False

    def execute(self, context: Any) -> str:
        """Submit the job unless its run is FINISHED already; return the run's id.

        Raises:
            AirflowFailException: The input is bad, or the search found nothing, so that no retry can help.
        """
        job_args = list(self.application_args)
        args = dict(zip(job_args[::2], job_args[1::2], strict=True))
        self._conn_id = context["params"]["spark_conn_id"]
        self._check_params(context["params"], args)
        while True:
            lease = self._lease(context, args.get("--upstream-run-id"))
            if lease.finished:
                self.log.info("run %s is FINISHED already and is adopted; nothing to do", lease.run_id)
                self._close_pipeline(lease.run_id)
                return str(lease.run_id)
            with self._credentials() as credentials:
                given = ["--run-id", lease.run_id, "--attempt", str(lease.attempt), *credentials]
                self.application_args = [*job_args, *given]
                done = self._submit(context)
            if done:
                return str(lease.run_id)
            self.log.warning(
                "attempt %d of %s ended with a trial that hung; submitting again, within this try",
                lease.attempt,
                self.stage,
            )

    def on_kill(self) -> None:
        """End the job with all its processes, then mark what it left RUNNING in MLflow KILLED.

        Airflow calls this from a signal handler, in the middle of whatever `execute` is at, or after a time-out.
        """
        if self._killed:
            return
        self._killed = True
        if self._hook is not None:
            self._end_job(self._hook)
        self._mark_killed()

    def _submit(self, context: Any) -> bool:
        """Run the job; return whether it is done, or a trial hung, so that it must be submitted again."""
        self.py_files = str(build_archive())
        self._hook = None  # has the arguments of the attempt before
        try:
            super().execute(context)
        except AirflowException as error:
            self._raise_if_killed()
            if _exit_code(error) in TrialHung.exit_codes:
                return False
            self._raise_for(error)
        self._raise_if_killed()  # a JVM that is told to end may do so with 0
        return True

    def _get_hook(self) -> SparkSubmitHook:
        hook = super()._get_hook()
        self._raise_if_killed()  # here, since nothing slow comes between this and the start of spark-submit
        return hook

    def _raise_if_killed(self) -> None:
        if self._killed:
            self._mark_killed()  # the kill came while the run was leased
            raise AirflowException(f"{self.stage}: killed")

    def _end_job(self, hook: SparkSubmitHook) -> None:
        submit = hook._submit_sp
        running = process_tree(submit.pid) if submit and submit.poll() is None else []
        if hook._driver_id or hook._yarn_application_id or hook._kubernetes_driver_pod:
            super().on_kill()  # ends a driver that runs on the cluster, but only while spark-submit is there
        end_processes(running)

    def _mark_killed(self) -> None:
        from retune.run_tree import kill_stage
        from retune.tracking import connect

        lease, self._leased = self._leased, None
        try:
            if lease:
                kill_stage(connect(), lease)
        except Exception as error:  # must not take the place of what Airflow is about to raise
            self.log.warning("run %s could not be marked KILLED: %s", lease and lease.run_id, error)

    def _check_params(self, params: Mapping[str, Any], args: dict[str, str]) -> None:
        """Check what the trigger form says against the file before anything is submitted."""
        if unknown := params.keys() - self.dag.params.keys():  # Airflow takes whatever a trigger's conf holds
            raise AirflowFailException(
                f"conf.{min(unknown)}: there is no such parameter; there are {', '.join(self.dag.params)}"
            )
        _get_connection("spark_conn_id", self._conn_id)  # the hook would take one that is not there for "yarn"
        if "--experiment" in args:
            try:
                experiment = read_experiment(args["--experiment"], parse_params(args["--params"]))
            except BadInput as error:
                raise AirflowFailException(str(error)) from error
            self._data_connection = getattr(experiment.data, "connection", None)

    @contextmanager
    def _credentials(self) -> Iterator[list[str]]:
        """Give the arguments by which the job is told the connection that its data name."""
        if self._data_connection is None:
            yield []
            return
        with offered(_get_connection("data.connection", self._data_connection)) as pipe:
            yield ["--credentials", str(pipe)]

    def _lease(self, context: Any, upstream_run_id: str | None) -> Any:
        """Find or make the stage's MLflow run, and show the link to it before the job starts."""
        from retune.handoff import read_upstream
        from retune.run_tree import lease_stage
        from retune.tracking import connect

        self._leased = None  # a kill must not write while this does
        client, ti = connect(), context["ti"]
        try:
            read_upstream(client, upstream_run_id, self.stage)
        except BadInput as error:
            raise AirflowFailException(str(error)) from error
        experiment = "retune/" + self.dag_id.removeprefix("retune_")
        lease = lease_stage(client, experiment, self.stage, context["run_id"], upstream_run_id, ti.max_tries)
        experiment_id = client.get_run(lease.run_id).info.experiment_id
        self.mlflow_link = settings.run_page(experiment_id, lease.run_id)
        ti.xcom_push(key=MlflowRunLink().xcom_key, value=self.mlflow_link)
        self.log.info("MLflow run: %s", self.mlflow_link)
        self._leased = None if lease.finished else lease
        return lease

    def _close_pipeline(self, run_id: str) -> None:
        """Do what the job of the last stage does after it has FINISHED, in case it died in between."""
        if self.stage == "evaluate":
            from retune.report import close_pipeline
            from retune.tracking import connect

            close_pipeline(connect(), run_id)

    def _raise_for(self, error: AirflowException) -> None:
        """Tell what a retry would only meet again, such as bad input, from other failures."""
        code = _exit_code(error)
        if code == BadInput.exit_code:
            raise AirflowFailException(
                f"{self.stage}: not retried, for it would end the same; see the job's last line above"
            ) from error
        # Asked only now, since spark-submits of some vendors know more places where Java may be.
        if no_java := settings.why_no_java():
            raise AirflowFailException(f"{self.stage}: {no_java}") from error
        raise AirflowException(f"{self.stage}: the job ended with exit code {'?' if code is None else code}") from error


def _get_connection(field: str, name: str) -> Any:
    try:
        return BaseHook.get_connection(name)
    except AirflowNotFoundException as error:
        raise AirflowFailException(
            f"{field} = {name!r}: Airflow has no such connection; add it, or name another"
        ) from error


def _exit_code(error: AirflowException) -> int | None:
    """Return spark-submit's exit code, which the hook tells in its message only; a signal's is negative."""
    code = re.search(r"Error code is: (-?\d+)", str(error))
    return int(code[1]) if code else None
