"""The MLflow run tree: which run is a stage's, and which attempt may write to it.

`pipeline` → `ingest`, `featurize`, `tune` → `trial` …, `retrain`, `evaluate`, and where MLflow's own autologging is
wanted, `trial` → `autolog` …: told apart by the tag `retune.stage`. A
run is live unless it is tagged `retune.superseded_by`. Nothing is ever deleted.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from retune.tracking import ensure_experiment, search_all

STAGES = ("ingest", "featurize", "tune", "retrain", "evaluate")
AUTOLOG = "autolog"  # below a trial
STAGE = "retune.stage"
DAG_RUN = "retune.dag_run_id"
UPSTREAM = "retune.upstream_run_id"
ATTEMPT = "retune.attempt"
MAX_TRIES = "retune.max_tries"
SUPERSEDED_BY = "retune.superseded_by"
ERROR = "retune.error"
PARENT = "mlflow.parentRunId"


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
            return _next_attempt(client, live, pipeline_id, max_tries)
    tags = {STAGE: stage, DAG_RUN: dag_run_id, PARENT: pipeline_id, ATTEMPT: "1", MAX_TRIES: str(max_tries)}
    if upstream_run_id:
        tags[UPSTREAM] = upstream_run_id
    run_id = client.create_run(experiment_id, tags=tags, run_name=stage).info.run_id
    if live is not None:
        _supersede(client, live, run_id)
    _set_running(client, pipeline_id)
    return Lease(run_id, 1)


def find_pipeline(client: MlflowClient, experiment: str, dag_run_id: str) -> Run | None:
    """Return the pipeline run of a DAG run, or None where it has none yet."""
    found = client.get_experiment_by_name(experiment)
    return _live_run(client, found.experiment_id, dag_run_id, "pipeline") if found else None


def end_pipeline(client: MlflowClient, pipeline: Run, status: str) -> None:
    """End a pipeline run with `status`; if FAILED, mark KILLED what a killed job left RUNNING below it."""
    client.set_terminated(pipeline.info.run_id, status)
    if status == "FAILED":
        of_this = f"tags.`{DAG_RUN}` = '{pipeline.data.tags[DAG_RUN]}'"
        # The newest first: a stage must not look ended while one of its trials does not.
        for run in reversed(search_all(client, pipeline.info.experiment_id, of_this)):
            if run.info.status == "RUNNING" and run.info.run_id != pipeline.info.run_id:
                client.set_terminated(run.info.run_id, "KILLED")


def why_not_current(client: MlflowClient, lease: Lease) -> str | None:
    """Return why the attempt of `lease` may not write to its run any more, or None if it may."""
    tags = client.get_run(lease.run_id).data.tags
    if SUPERSEDED_BY in tags:
        return f"run {lease.run_id} was superseded by run {tags[SUPERSEDED_BY]}"
    if int(tags[ATTEMPT]) != lease.attempt:
        return f"attempt {lease.attempt} of {tags[STAGE]} gives way to attempt {tags[ATTEMPT]}"
    return None


def end_stage(client: MlflowClient, lease: Lease, error: str | None = None) -> None:
    """End a stage's run, unless another attempt owns it now: FINISHED, or FAILED with the error as a tag."""
    if why_not_current(client, lease):
        return
    if error is None:
        client.set_terminated(lease.run_id, "FINISHED")
    else:
        client.set_tag(lease.run_id, ERROR, error[:5000])
        client.set_terminated(lease.run_id, "FAILED")


def kill_stage(client: MlflowClient, lease: Lease) -> None:
    """Mark KILLED what a killed job left RUNNING, its trials and its run, unless another attempt owns them now."""
    if why_not_current(client, lease):
        return
    stage = client.get_run(lease.run_id)
    kill_trials(client, stage)
    if stage.info.status == "RUNNING":
        client.set_terminated(stage.info.run_id, "KILLED")


def kill_trials(client: MlflowClient, tune: Run) -> None:
    """Mark KILLED the trials below a tune run that no process works on any more, and what is below those."""
    for trial in children(client, tune, "trial"):
        if trial.info.status in ("RUNNING", "SCHEDULED"):
            for run in [*children(client, trial, AUTOLOG), trial]:
                client.set_terminated(run.info.run_id, "KILLED")


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


def _next_attempt(client: MlflowClient, run: Run, pipeline_id: str, max_tries: int) -> Lease:
    attempt = int(run.data.tags.get(ATTEMPT, 0)) + 1
    client.set_tag(run.info.run_id, ATTEMPT, str(attempt))
    # A clearing that this run was gone on after counts as seen, or a lost worker would have it done again.
    client.set_tag(run.info.run_id, MAX_TRIES, str(max(max_tries, int(run.data.tags.get(MAX_TRIES, 0)))))
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
