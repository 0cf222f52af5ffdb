"""The MLflow run tree: how stages find their own run, read upstream ones, and hand on what they wrote.

`pipeline` → `ingest`, `featurize`, `tune` → `trial` …, `retrain`, `evaluate`: told apart by the tag `retune.stage`.
All that passes from stage to stage is a run id; what a stage wrote is named by `retune.output.*` tags of its run.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from retune import settings
from retune.errors import BadInput, Superseded
from retune.experiment import Experiment
from retune.tracking import ensure_experiment, search_all

STAGES = ("ingest", "featurize", "tune", "retrain", "evaluate")
STAGE = "retune.stage"
DAG_RUN = "retune.dag_run_id"
UPSTREAM = "retune.upstream_run_id"
ATTEMPT = "retune.attempt"
MAX_TRIES = "retune.max_tries"
SUPERSEDED_BY = "retune.superseded_by"
ERROR = "retune.error"
OUTPUT = "retune.output."
PARENT = "mlflow.parentRunId"
EXPERIMENT_FILE = "experiment.json"


@dataclass(frozen=True)
class Lease:
    """The right of one attempt to work in a stage's run.

    Attributes:
        run_id: The stage's live MLflow run.
        attempt: Counts from 1 within the run; a job whose attempt is not the newest must stop.
        finished: The stage was done before; there is nothing to do but hand on the id.
    """

    run_id: str
    attempt: int
    finished: bool = False


def lease_stage(
    client: MlflowClient,
    experiment: str,
    stage: str,
    dag_run_id: str,
    upstream_run_id: str | None = None,
    max_tries: int = 0,
) -> Lease:
    """Find the live run of a stage, or make one.

    A run that is not FINISHED is gone on with. One that is FINISHED is adopted, unless the task was cleared since
    (`max_tries` has grown) or its upstream run is another now; then it is superseded, like an unfinished run of
    another upstream.

    Args:
        client: The MLflow client.
        experiment: The MLflow experiment's name.
        stage: One of `STAGES`.
        dag_run_id: What tells this pipeline run from others of the experiment.
        upstream_run_id: The run of the stage before; None for ingest.
        max_tries: Airflow's `max_tries` of the task: it grows when the task is cleared, not when it is retried.
    """
    experiment_id = ensure_experiment(client, experiment)
    pipeline_id = _ensure_pipeline(client, experiment_id, dag_run_id)
    live = _live_run(client, experiment_id, dag_run_id, stage)
    if live is not None:
        same_input = live.data.tags.get(UPSTREAM) == upstream_run_id
        done = live.info.status == "FINISHED"
        if same_input and done and max_tries <= int(live.data.tags.get(MAX_TRIES, 0)):
            return Lease(live.info.run_id, int(live.data.tags.get(ATTEMPT, 1)), finished=True)
        if same_input and not done:
            return _next_attempt(client, live, pipeline_id)
    tags = {STAGE: stage, DAG_RUN: dag_run_id, PARENT: pipeline_id, ATTEMPT: "1", MAX_TRIES: str(max_tries)}
    if upstream_run_id:
        tags[UPSTREAM] = upstream_run_id
    run_id = client.create_run(experiment_id, tags=tags, run_name=stage).info.run_id
    if live is not None:
        _supersede(client, live, run_id)
    _set_running(client, pipeline_id)
    return Lease(run_id, 1)


def end_pipeline(client: MlflowClient, experiment: str, dag_run_id: str, status: str) -> None:
    """End the pipeline run of `dag_run_id` with `status`, and mark KILLED what a killed job left RUNNING below it."""
    found = client.get_experiment_by_name(experiment)
    pipeline = found and _live_run(client, found.experiment_id, dag_run_id, "pipeline")
    if not pipeline:
        return
    client.set_terminated(pipeline.info.run_id, status)
    if status == "FAILED":
        for run in search_all(client, found.experiment_id, f"tags.`{DAG_RUN}` = '{dag_run_id}'"):
            if run.info.status == "RUNNING" and run.info.run_id != pipeline.info.run_id:
                client.set_terminated(run.info.run_id, "KILLED")


@dataclass(frozen=True)
class Stage:
    """What a job knows of itself and of the stages before it.

    Attributes:
        client: The MLflow client.
        name: One of `STAGES`.
        run: This stage's MLflow run as it was when the job started.
        attempt: Which attempt of the run this job is.
        experiment: The experiment as ingest resolved it for this pipeline run.
        upstream: The FINISHED runs of the stages before, by stage.
    """

    client: MlflowClient
    name: str
    run: Run
    attempt: int
    experiment: Experiment
    upstream: dict[str, Run] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return str(self.run.info.run_id)

    @property
    def experiment_id(self) -> str:
        return str(self.run.info.experiment_id)

    @property
    def pipeline_run_id(self) -> str:
        return str(self.run.data.tags[PARENT])

    @property
    def folder(self) -> str:
        """The URI below which this attempt, and no other, writes."""
        return f"{settings.workspace()}/{self.experiment.name}/{self.run_id}/{self.attempt}"

    def output(self, stage: str, name: str) -> str:
        """Return what an upstream stage handed on under `name`."""
        try:
            return str(self.upstream[stage].data.tags[OUTPUT + name])
        except KeyError:
            raise BadInput(f"the {stage} run before {self.name} has no output {name!r}; run {stage} again") from None

    def artifact(self, stage: str, path: str) -> dict[str, Any]:
        """Return the JSON artifact `path` of an upstream stage."""
        return dict(mlflow.artifacts.load_dict(f"runs:/{self.upstream[stage].info.run_id}/{path}"))

    def publish(self, **outputs: str) -> None:
        """Hand on what was written; call it once all is written, since later stages take it for whole."""
        self.ensure_current()
        for name, value in outputs.items():
            self.client.set_tag(self.run_id, OUTPUT + name, value)

    def log_metrics(self, values: dict[str, float], run_id: str | None = None) -> None:
        """Log `values` in one call."""
        now = int(time.time() * 1000)
        metrics = [mlflow.entities.Metric(name, float(value), now, 0) for name, value in values.items()]
        self.client.log_batch(run_id or self.run_id, metrics=metrics)

    def ensure_current(self) -> None:
        """Check that no newer attempt has taken over.

        Raises:
            Superseded: It has; this process must write no more.
        """
        if reason := why_not_current(self.client, Lease(self.run_id, self.attempt)):
            raise Superseded(reason)


def why_not_current(client: MlflowClient, lease: Lease) -> str | None:
    """Return why the attempt of `lease` may not write to its run any more, or None if it may."""
    tags = client.get_run(lease.run_id).data.tags
    if SUPERSEDED_BY in tags:
        return f"run {lease.run_id} was superseded by run {tags[SUPERSEDED_BY]}"
    if int(tags[ATTEMPT]) != lease.attempt:
        return f"attempt {lease.attempt} of {tags[STAGE]} gives way to attempt {tags[ATTEMPT]}"
    return None


def open_stage(client: MlflowClient, name: str, lease: Lease, resolved: Experiment | None = None) -> Stage:
    """Read all that the job of `lease` needs, and mark its run RUNNING.

    Args:
        client: The MLflow client.
        name: One of `STAGES`.
        lease: The run and the attempt.
        resolved: For ingest, the experiment, which is logged on the pipeline run; later stages read it from there.

    Raises:
        BadInput: The run is unknown or of another stage, or an upstream run is not fit to go on from.
    """
    run = _get_run(client, lease.run_id)
    _require_stage(run, name)
    upstream = _read_upstream(client, run.data.tags.get(UPSTREAM), name)
    pipeline_id = run.data.tags[PARENT]
    if resolved is not None:
        client.log_dict(pipeline_id, resolved.model_dump(mode="json"), EXPERIMENT_FILE)
    experiment = resolved or read_resolved(pipeline_id)
    client.update_run(lease.run_id, status="RUNNING")
    stage = Stage(client, name, run, lease.attempt, experiment, upstream)
    stage.ensure_current()
    return stage


def read_resolved(pipeline_run_id: str) -> Experiment:
    """Return the experiment as ingest resolved it for a pipeline run."""
    text = json.dumps(mlflow.artifacts.load_dict(f"runs:/{pipeline_run_id}/{EXPERIMENT_FILE}"))
    return Experiment.model_validate_json(text)


def lease_after(client: MlflowClient, stage: str, upstream_run_id: str) -> Lease:
    """Lease a stage for a job run by hand after the run `upstream_run_id`, in the same pipeline run.

    Raises:
        BadInput: The upstream run is unknown, not FINISHED, or not of the stage before.
    """
    upstream = _read_upstream(client, upstream_run_id, stage)[STAGES[STAGES.index(stage) - 1]]
    experiment = client.get_experiment(upstream.info.experiment_id).name
    return lease_stage(client, experiment, stage, upstream.data.tags[DAG_RUN], upstream_run_id)


def end_stage(client: MlflowClient, lease: Lease, error: str | None = None) -> None:
    """End a stage's run, unless another attempt owns it now: FINISHED, or FAILED with the error as a tag."""
    if why_not_current(client, lease):
        return
    if error is None:
        client.set_terminated(lease.run_id, "FINISHED")
    else:
        client.set_tag(lease.run_id, ERROR, error[:5000])
        client.set_terminated(lease.run_id, "FAILED")


def children(client: MlflowClient, run: Run, stage: str) -> list[Run]:
    """Return the live runs of `stage` below `run`, oldest first."""
    found = search_all(
        client, run.info.experiment_id, f"tags.`{PARENT}` = '{run.info.run_id}' and tags.`{STAGE}` = '{stage}'"
    )
    return [child for child in found if SUPERSEDED_BY not in child.data.tags]


def _live_run(client: MlflowClient, experiment_id: str, dag_run_id: str, stage: str) -> Run | None:
    found = search_all(client, experiment_id, f"tags.`{DAG_RUN}` = '{dag_run_id}' and tags.`{STAGE}` = '{stage}'")
    live = [run for run in found if SUPERSEDED_BY not in run.data.tags]
    return live[-1] if live else None


def _ensure_pipeline(client: MlflowClient, experiment_id: str, dag_run_id: str) -> str:
    run = _live_run(client, experiment_id, dag_run_id, "pipeline")
    if run is None:
        tags = {STAGE: "pipeline", DAG_RUN: dag_run_id}
        run = client.create_run(experiment_id, tags=tags, run_name=dag_run_id)
    return str(run.info.run_id)


def _next_attempt(client: MlflowClient, run: Run, pipeline_id: str) -> Lease:
    attempt = int(run.data.tags.get(ATTEMPT, 0)) + 1
    client.set_tag(run.info.run_id, ATTEMPT, str(attempt))
    if ERROR in run.data.tags:
        client.delete_tag(run.info.run_id, ERROR)
    _set_running(client, run.info.run_id)
    _set_running(client, pipeline_id)
    return Lease(run.info.run_id, attempt)


def _set_running(client: MlflowClient, run_id: str) -> None:
    client.update_run(run_id, status="RUNNING")


def _supersede(client: MlflowClient, run: Run, by: str) -> None:
    for old in [run, *children(client, run, "trial")]:
        client.set_tag(old.info.run_id, SUPERSEDED_BY, by)
        if old.info.status == "RUNNING":
            client.set_terminated(old.info.run_id, "KILLED")


def _read_upstream(client: MlflowClient, run_id: str | None, stage: str) -> dict[str, Run]:
    """Follow the chain of upstream runs back to ingest; each must be FINISHED and of the stage expected there."""
    runs: dict[str, Run] = {}
    for expected in reversed(STAGES[: STAGES.index(stage)]):
        if not run_id:
            raise BadInput(f"{stage} needs the id of a FINISHED {expected} run: give --upstream-run-id")
        run = _get_run(client, run_id)
        _require_stage(run, expected)
        if run.info.status != "FINISHED":
            raise BadInput(
                f"{expected} run {run_id} is {run.info.status}, but {stage} needs a FINISHED one; run it again"
            )
        runs[expected] = run
        run_id = run.data.tags.get(UPSTREAM)
    return runs


def _get_run(client: MlflowClient, run_id: str) -> Run:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise BadInput(
            f"MLflow has no run {run_id!r} at {settings.without_password(settings.tracking_uri())}"
        ) from error


def _require_stage(run: Run, stage: str) -> None:
    found = run.data.tags.get(STAGE)
    if found != stage:
        raise BadInput(f"run {run.info.run_id} is of stage {found!r}, but a {stage} run was expected")
