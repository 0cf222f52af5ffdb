"""Rounds logged while a fit goes on: by step, about once a second, and at no price to the trial."""

from __future__ import annotations

import socket
import time

import pytest
from mlflow.tracking import MlflowClient

from retune.placements import live
from retune.placements.live import LiveLog


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    uri = f"sqlite:///{tmp_path_factory.mktemp('live')}/mlflow.db"
    return uri, MlflowClient(uri)


@pytest.fixture
def run(store):
    uri, client = store
    return uri, client, client.create_run("0").info.run_id


def history(client, run_id, name):
    return [(each.step, each.value) for each in client.get_metric_history(run_id, name)]


def wait_for(client, run_id, name):
    deadline = time.monotonic() + 20
    while not history(client, run_id, name) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_rounds_are_there_while_the_fit_goes_on(run, monkeypatch):
    monkeypatch.setattr(live, "_EVERY_S", 0.0)
    uri, client, run_id = run
    with LiveLog(uri).of_fit(run_id) as report:
        report(1, {"train_loss": 0.5, "validation_loss": 0.7})
        wait_for(client, run_id, "train_loss")
        assert history(client, run_id, "train_loss") == [(1, 0.5)]
        report(2, {"train_loss": 0.25, "validation_loss": float("nan")})
    assert history(client, run_id, "train_loss") == [(1, 0.5), (2, 0.25)]
    assert history(client, run_id, "validation_loss") == [(1, 0.7)]


def test_many_rounds_take_few_calls_and_none_is_lost(run, monkeypatch):
    sent = []
    log_batch = MlflowClient.log_batch
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *a, **k: (sent.append(1), log_batch(*a, **k)))
    uri, client, run_id = run
    with LiveLog(uri).of_fit(run_id, "fold_1_") as report:
        for epoch in range(1, 1201):
            report(epoch, {"train_loss": 1 / epoch})
    assert [step for step, _ in history(client, run_id, "fold_1_train_loss")] == list(range(1, 1201))
    assert len(sent) <= 4


def test_a_server_that_is_not_there_costs_the_trial_nothing(caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with LiveLog("http://127.0.0.1:9").of_fit("run") as report:
        report(1, {"train_loss": 0.5})
    assert "1 metrics of rounds could not be logged" in caplog.text


def test_a_server_that_does_not_answer_is_not_waited_for(caplog, monkeypatch):
    monkeypatch.setattr(live, "_EVERY_S", 0.0)
    monkeypatch.setattr(live, "_LAST_WAIT_S", 0.2)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with LiveLog(f"http://127.0.0.1:{silent.getsockname()[1]}").of_fit("run") as report:
            report(1, {"train_loss": 0.5})
            report(2, {"train_loss": 0.4})
        assert time.monotonic() - started < 2
    assert "MLflow takes too long: the last 1 metrics of rounds are lost" in caplog.text


def test_an_error_of_the_fit_is_handed_on_and_its_rounds_are_kept(run):
    uri, client, run_id = run
    with pytest.raises(ArithmeticError, match="nan"), LiveLog(uri).of_fit(run_id) as report:  # noqa: PT012
        report(1, {"train_loss": 0.5})
        raise ArithmeticError("nan")
    assert history(client, run_id, "train_loss") == [(1, 0.5)]
