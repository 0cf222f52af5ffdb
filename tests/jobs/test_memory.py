"""What a search takes from MLflow: the trials of its own earlier attempts, and those of earlier searches."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from retune import last_resort
from retune.experiment import Experiment
from retune.handoff import FINGERPRINT, Stage
from retune.run_tree import Lease, end_stage, lease_stage
from retune.search.trial import Trial
from retune.stages.tune import _rounds_of, _usable_history, hash_of_basis
from retune.stages.warm_start import champion_setting, learn_from_earlier
from retune.tracking import connect
from retune.trial_runs import TrialRuns

RATE = {"type": "uniform", "low": 0.0, "high": 1.0}


@pytest.fixture
def client(tmp_path, monkeypatch) -> MlflowClient:
    monkeypatch.setenv("RETUNE_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return connect()


def experiment(space: dict[str, Any] | None = None, **search: Any) -> Experiment:
    fields = {"metric": "r2", "max_trials": 4, "space": space or {"rate": RATE}, **search}
    return Experiment.model_validate(
        {
            "name": "toy",
            "data": {"source": "sklearn", "dataset": "diabetes", "target": "target"},
            "problem": "regression",
            "model": {"trainer": "synapseml_lightgbm"},
            "search": fields,
        }
    )


def tune(client: MlflowClient, dag_run: str, toy: Experiment, data: str = "one") -> Stage:
    """Lease the tune stage of a pipeline run as far as a job would; `data` stands for the fingerprint."""
    ingest = lease_stage(client, toy.mlflow_experiment, "ingest", dag_run)
    client.set_tag(ingest.run_id, FINGERPRINT, data)
    lease = lease_stage(client, toy.mlflow_experiment, "tune", dag_run, ingest.run_id)
    run = client.get_run(lease.run_id)
    return Stage(client, "tune", run, lease.attempt, toy, {"ingest": client.get_run(ingest.run_id)})


def try_(stage: Stage, *rates: float, error: str | None = None) -> TrialRuns:
    tracker = TrialRuns(stage)
    history = _usable_history(stage, tracker, hash_of_basis(stage))
    for number, rate in enumerate(rates, start=len(history)):
        metrics = {} if error else {"validation_r2": rate}
        run_id = tracker.start(number, {"rate": rate})
        tracker.end(Trial(number, {"rate": rate}, run_id, None if error else -rate, metrics, 1.0, error))
    return tracker


def again(stage: Stage, **changes: Any) -> list[float]:
    """Return the settings that the next attempt goes on from."""
    stage = replace(stage, **changes)
    return [trial.setting["rate"] for trial in _usable_history(stage, TrialRuns(stage), hash_of_basis(stage))]


def test_the_next_attempt_goes_on_from_what_ended(client):
    stage = tune(client, "a", experiment())
    try_(stage, 0.1, 0.2).start(2, {"rate": 0.3})
    assert again(stage) == [0.1, 0.2]


def test_what_retrain_is_told_of_rounds():
    trial = Trial(0, {"rate": 0.1}, "run", -0.5, {"rounds": 12.4})
    early = experiment(early_stopping_rounds=5).search
    assert (_rounds_of(trial, early), _rounds_of(None, early), _rounds_of(trial, experiment().search)) == (
        "12",
        "0",
        "0",
    )


def test_where_python_was_blocked_a_trial_that_ran_alone_is_failed(client):
    stage = tune(client, "a", experiment())
    run_id = try_(stage, 0.1).start(1, {"rate": 0.2})
    last_resort._mark({run_id: 26.0})
    tracker = TrialRuns(stage)
    assert [trial.error is None for trial in tracker.history()] == [True, False]
    assert tracker.history()[1].error.startswith("no end within 26 s, and Python itself was blocked")
    assert tracker.suspects() == frozenset()


def test_where_python_was_blocked_trials_that_ran_together_are_tried_again_alone(client):
    stage = tune(client, "a", experiment())
    tracker = try_(stage, 0.1)
    last_resort._mark({tracker.start(number, {"rate": 0.2}): 26.0 for number in (1, 2)})
    assert again(stage) == [0.1]
    assert TrialRuns(stage).suspects() == {1, 2}


@pytest.mark.parametrize(
    "changed",
    [
        experiment({"rate": RATE | {"high": 0.9}}),
        experiment(validation="cross_validation"),
        Experiment.model_validate(
            experiment().model_dump() | {"model": {"trainer": "synapseml_lightgbm", "fixed": {"numLeaves": 5}}}
        ),
    ],
    ids=["space", "validation", "trainer"],
)
def test_trials_of_another_search_are_set_aside_and_stay_so(client, changed, caplog):
    stage = tune(client, "a", experiment())
    try_(stage, 0.1, 0.2)
    assert again(stage, experiment=changed) == []
    assert "changed since 2 earlier trials" in caplog.text
    assert again(stage, experiment=changed) == []


def test_a_kill_before_they_are_set_aside_does_not_let_them_back_in(client, monkeypatch):
    stage = tune(client, "a", experiment())
    try_(stage, 0.1, 0.2)
    changed = experiment({"rate": RATE | {"high": 0.9}})
    with monkeypatch.context() as patch:
        patch.setattr(TrialRuns, "set_aside", lambda *args: sys.exit("killed"))
        with pytest.raises(SystemExit, match="killed"):
            again(stage, experiment=changed)
    assert again(stage, experiment=changed) == []


def test_trials_on_other_data_are_set_aside(client):
    stage = tune(client, "a", experiment())
    try_(stage, 0.1)
    client.set_tag(stage.upstream["ingest"].info.run_id, FINGERPRINT, "two")
    assert again(stage, upstream={"ingest": client.get_run(stage.upstream["ingest"].info.run_id)}) == []


@pytest.mark.parametrize(("toy", "failed"), [(experiment(), 4), (experiment(max_failed_trials=2), 2)])
def test_a_search_without_hope_starts_anew(client, toy, failed):
    stage = tune(client, "a", toy)
    try_(stage, *[0.1] * failed, error="ValueError: no")
    assert again(stage) == []


def warm(client: MlflowClient, toy: Experiment, data: str = "one"):
    stage = tune(client, "new", toy, data)
    return learn_from_earlier(stage, hash_of_basis(stage))


def earlier_search(client: MlflowClient, dag_run: str, *rates: float, data: str = "one") -> None:
    stage = tune(client, dag_run, experiment(), data)
    try_(stage, *rates)
    end_stage(client, Lease(stage.run_id, stage.attempt))


def test_trials_of_earlier_searches_are_learnt_the_newest_last(client):
    earlier_search(client, "a", 0.1)
    earlier_search(client, "b", 0.2, 0.3)
    earlier_search(client, "c", 0.4)
    learnt = warm(client, experiment(warm_start={"runs": 2}))
    assert [(trial.number, trial.setting["rate"], trial.loss) for trial in learnt.trials] == [
        (-3, 0.2, -0.2), (-2, 0.3, -0.3), (-1, 0.4, -0.4),
    ]  # fmt: skip
    assert learnt.counts == {"taken": 3}


@pytest.mark.parametrize(
    ("outside", "rates", "counts"),
    [
        ("drop", [0.3], {"outside the space dropped": 1, "taken": 1}),
        ("clip", [0.5, 0.3], {"clipped into the space": 1, "taken": 1}),
    ],
)
def test_what_lies_outside_todays_space_is_dropped_or_clipped_and_counted(client, caplog, outside, rates, counts):
    caplog.set_level("INFO")
    earlier_search(client, "a", 0.9, 0.3)
    toy = experiment({"rate": RATE | {"high": 0.5}}, warm_start={"outside": outside})
    learnt = warm(client, toy)
    assert [trial.setting["rate"] for trial in learnt.trials] == rates
    assert learnt.counts == counts
    assert all(f"{count} {what}" in caplog.text for what, count in counts.items())


def test_other_data_are_left_out_or_their_best_is_tried_first(client):
    earlier_search(client, "a", 0.2, 0.7, 0.4, data="other")
    left_out = warm(client, experiment(warm_start={}))
    assert (left_out.trials, left_out.points) == ([], [])
    assert left_out.counts == {"on other data left out": 3}
    tried = warm(client, experiment(warm_start={"other_data": "best_first"}))
    assert (tried.trials, tried.points) == ([], [{"rate": 0.7}])


def test_without_the_section_nothing_is_learnt(client):
    earlier_search(client, "a", 0.2)
    assert warm(client, experiment()).trials == []


def test_a_champion_that_does_not_tell_its_setting_is_left_out(client, caplog):
    toy = experiment(points_to_evaluate="champion")
    stage = tune(client, "a", toy)
    assert champion_setting(stage) is None
    client.create_registered_model(toy.dag_id)
    client.create_model_version(toy.dag_id, source="file:///by/hand", run_id=stage.run_id)
    client.set_registered_model_alias(toy.dag_id, "champion", "1")
    assert champion_setting(stage) is None
    assert "version 1 is left out" in caplog.text
