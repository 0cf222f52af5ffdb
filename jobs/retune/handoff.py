"""The hand-off between stages: what a job knows of itself, reads of the stages before it, and passes on.

All that passes from stage to stage is a run id; what a stage wrote is named by `retune.output.*` tags of its run.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from retune import settings
from retune.errors import BadInput, Superseded
from retune.experiment import Experiment
from retune.run_tree import DAG_RUN, PARENT, STAGE, STAGES, SUPERSEDED_BY, UPSTREAM, Lease, lease_stage, why_not_current

OUTPUT = "retune.output."
EXPERIMENT_FILE = "experiment.json"
PROFILE = "profile.json"  # of ingest: a `retune.data.profile.Profile`
FEATURE_LIST = "features.json"  # of featurize: which columns became features, and why the others did not
FINGERPRINT = "retune.fingerprint"
IMPORTANCES = "retune.importances"  # of retrain: what the challenger goes by most, as JSON


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
        credentials: The file or pipe with the connection that the experiment's data name.
    """

    client: MlflowClient
    name: str
    run: Run
    attempt: int
    experiment: Experiment
    upstream: dict[str, Run] = field(default_factory=dict)
    credentials: Path | None = None

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

    def log_metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Log `values` in one call."""
        now = int(time.time() * 1000)
        metrics = [mlflow.entities.Metric(name, float(value), now, step) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def ensure_current(self) -> None:
        """Check that no newer attempt has taken over.

        Raises:
            Superseded: It has; this process must write no more.
        """
        if reason := why_not_current(self.client, Lease(self.run_id, self.attempt)):
            raise Superseded(reason)


def open_stage(
    client: MlflowClient,
    name: str,
    lease: Lease,
    resolved: Experiment | None = None,
    credentials: Path | None = None,
) -> Stage:
    """Read all that the job of `lease` needs, and mark its run RUNNING.

    Args:
        client: The MLflow client.
        name: One of `STAGES`.
        lease: The run and the attempt.
        resolved: For ingest, the experiment, which is logged on the pipeline run; later stages read it from there.
        credentials: For ingest, see `Stage`.

    Raises:
        BadInput: The run is unknown or of another stage, or an upstream run is not fit to go on from.
    """
    run = _get_run(client, lease.run_id)
    _require_stage(run, name)
    upstream = read_upstream(client, run.data.tags.get(UPSTREAM), name)
    pipeline_id = run.data.tags[PARENT]
    if resolved is not None:
        client.log_dict(pipeline_id, resolved.model_dump(mode="json"), EXPERIMENT_FILE)
    experiment = resolved or read_resolved(pipeline_id)
    client.update_run(lease.run_id, status="RUNNING")
    stage = Stage(client, name, run, lease.attempt, experiment, upstream, credentials)
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
    upstream = read_upstream(client, upstream_run_id, stage)[STAGES[STAGES.index(stage) - 1]]
    experiment = client.get_experiment(upstream.info.experiment_id).name
    return lease_stage(client, experiment, stage, upstream.data.tags[DAG_RUN], upstream_run_id)


def read_upstream(client: MlflowClient, run_id: str | None, stage: str) -> dict[str, Run]:
    """Follow the chain of upstream runs back to ingest; return them by stage.

    Raises:
        BadInput: One is unknown, not FINISHED, superseded, or not of the stage expected there.
    """
    runs: dict[str, Run] = {}
    for expected in reversed(STAGES[: STAGES.index(stage)]):
        if not run_id:
            raise BadInput(f"{stage} needs the id of a FINISHED {expected} run: give --upstream-run-id")
        run = _get_run(client, run_id)
        _require_stage(run, expected)
        if by := run.data.tags.get(SUPERSEDED_BY):
            raise BadInput(f"{expected} run {run_id} was superseded by run {by}; go on from that one")
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
