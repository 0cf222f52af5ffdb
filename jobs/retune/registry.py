"""Registered models: versions and the aliases `challenger` and `champion`."""

from __future__ import annotations

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from retune.promotion import Decision

CHALLENGER = "challenger"
CHAMPION = "champion"


def register_challenger(client: MlflowClient, name: str, model_uri: str, run_id: str) -> str:
    """Register the model of a retrain run, once however often it is tried, and point `challenger` at it.

    Returns:
        The version.
    """
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    registered = version_of_run(client, name, run_id)
    version = registered or client.create_model_version(name, source=model_uri, run_id=run_id)
    client.set_registered_model_alias(name, CHALLENGER, version.version)
    return str(version.version)


def version_of_run(client: MlflowClient, name: str, run_id: str) -> ModelVersion | None:
    """Return the version that `run_id` registered, or None."""
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return found[0] if found else None


def champion_version(client: MlflowClient, name: str) -> str | None:
    """Return the version that the alias `champion` names, or None."""
    try:
        return str(client.get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def apply(client: MlflowClient, name: str, decision: Decision) -> None:
    """Move the alias as decided, unless it moved elsewhere since: then somebody else's word stands."""
    if decision.promote and champion_version(client, name) == decision.champion:
        client.set_registered_model_alias(name, CHAMPION, decision.challenger)
