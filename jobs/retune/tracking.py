"""The connection to MLflow."""

from __future__ import annotations

import logging
import os
import re
from typing import Any

import mlflow
from mlflow.entities import Experiment as MlflowExperiment
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Map
from tenacity import RetryError, Retrying, stop_after_attempt, wait_exponential

from retune import settings
from retune.errors import TrackingUnreachable

log = logging.getLogger(__name__)
_ATTEMPTS = 4
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # MLflow's UI opens on runs, not on traces


def connect() -> MlflowClient:
    """Return a client of the tracking store once that has answered.

    Afterwards MLflow retries a request as often as `$MLFLOW_HTTP_REQUEST_MAX_RETRIES` says, by default 7 times.

    Raises:
        TrackingUnreachable: A server did not answer four times, with waits of 1, 2 and 4 seconds between; or a
            database could not be opened.
    """
    uri = settings.tracking_uri()
    if uri.startswith("sqlite:///"):
        settings.home().mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    where = f"MLflow at {settings.without_password(uri)}"
    mlflow.set_tracking_uri(uri)
    # A database store has retries of its own, of more than a minute.
    attempts = _ATTEMPTS if uri.startswith("http") else 1
    retrying = Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(multiplier=1, max=8),
        before_sleep=lambda _: log.warning("%s does not answer yet; trying again", where),
    )
    # A server that has answered once will again: wait out a restart, up to about four minutes with waits that double.
    retries = os.environ.get(_RETRIES) or "7"
    # Before that, as many would make an unreachable server hang for minutes at each of our own tries.
    os.environ[_RETRIES] = "2"
    try:
        return retrying(_client_that_answers)
    except RetryError as error:
        cause = error.last_attempt.exception()
        raise TrackingUnreachable(
            f"{where} did not answer in {attempts} tries ({_first_line(cause)}); start it, or set MLFLOW_TRACKING_URI"
        ) from cause
    finally:
        os.environ[_RETRIES] = retries


def _client_that_answers() -> MlflowClient:
    client = MlflowClient()
    client.search_experiments(max_results=1)
    return client


def ensure_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of the MLflow experiment `name`, made if it is not there."""
    found = client.get_experiment_by_name(name)
    if found is None:
        root = settings.artifact_root()
        try:
            location = f"{root}/{name}" if root else None
            return str(client.create_experiment(name, artifact_location=location, tags=_KIND))
        except MlflowException:  # another process was quicker
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return _live_id(found)


def search_all(client: MlflowClient, experiment_id: str, filter_string: str) -> list[Any]:
    """Return all runs that match, page after page, oldest first."""
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], filter_string, order_by=["attributes.start_time ASC"], max_results=1000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def mlflow_schema(columns: dict[str, str]) -> Schema:
    """Return Spark's column types as MLflow has them; what MLflow has no name for is told as a string."""
    kinds: dict[str, DataType | Map] = {
        "bigint": DataType.long, "double": DataType.double, "boolean": DataType.boolean,
        "map<string,double>": Map(DataType.double),
    }  # fmt: skip
    return Schema([ColSpec(kinds.get(kind, DataType.string), name, required=False) for name, kind in columns.items()])


def _live_id(experiment: MlflowExperiment) -> str:
    if experiment.lifecycle_stage != "active":
        raise TrackingUnreachable(
            f"the MLflow experiment {experiment.name!r} was deleted; restore it with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or remove it for good with `mlflow gc`"
        )
    return str(experiment.experiment_id)


def _first_line(error: BaseException | None) -> str:
    text = settings.without_password(str(error))
    system = re.search(r"\[Errno -?\d+\] [^'\n]+", text)  # at the end of a long line of requests and urllib3
    line = (system[0] if system else text).partition("\n")[0][:200]
    return f"{type(error).__name__}: {line}"
