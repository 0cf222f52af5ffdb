"""Connecting to MLflow: how often a request is tried again, while connecting and afterwards."""

import os
from collections.abc import Iterator

import mlflow
import pytest
from tenacity import wait_none

from retune import tracking
from retune.errors import TrackingUnreachable

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
UNREACHABLE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    """A store for all tests of this module, since a new MLflow database takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('home')}/mlflow.db"


@pytest.fixture(params=[None, "", "0", "9"], ids=str)
def chosen(request, monkeypatch) -> str | None:
    """What the user set, if anything."""
    monkeypatch.setenv(RETRIES, "")  # or monkeypatch would not take back what `connect` sets
    if request.param is None:
        monkeypatch.delenv(RETRIES)
    else:
        monkeypatch.setenv(RETRIES, request.param)
    return request.param


@pytest.fixture
def connecting(monkeypatch, tmp_path) -> Iterator[list[str]]:
    """What MLflow was told at each try to connect; no try waits."""
    told: list[str] = []
    client_that_answers = tracking._client_that_answers

    def watched():
        told.append(os.environ[RETRIES])
        return client_that_answers()

    monkeypatch.setattr(tracking, "_client_that_answers", watched)
    monkeypatch.setattr(tracking, "wait_exponential", lambda **_: wait_none())
    monkeypatch.setenv("RETUNE_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    before = mlflow.get_tracking_uri()
    yield told
    mlflow.set_tracking_uri(before)


def test_once_connected_requests_are_tried_again_as_often_as_the_user_says(monkeypatch, database, chosen, connecting):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    assert tracking.connect().search_experiments()
    assert connecting == ["2"]
    assert os.environ[RETRIES] == (chosen or "7")
    tracking.connect()
    assert os.environ[RETRIES] == (chosen or "7")


def test_what_the_user_says_outlasts_a_server_that_does_not_answer(monkeypatch, chosen, connecting):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", UNREACHABLE)
    with pytest.raises(TrackingUnreachable, match=f"^MLflow at {UNREACHABLE} did not answer in 4 tries .*refused"):
        tracking.connect()
    assert connecting == ["2"] * 4
    assert os.environ[RETRIES] == (chosen or "7")
