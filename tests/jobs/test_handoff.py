"""How stages find their MLflow run after a retry, a lost worker, a clearing, or another run of the stage before."""

from __future__ import annotations

import time
from dataclasses import replace
from unittest import mock

import pytest

from retune import handoff, run_tree, trial_runs
from retune.errors import BadInput, Superseded
from retune.experiment import Experiment
from retune.run_tree import Lease, lease_stage
from retune.search.loop import Trial
from retune.tracking import connect
from retune.trial_runs import TrialRuns

NAME = "retune/toy"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("handoff")


@pytest.fixture
def client(home, monkeypatch):
    monkeypatch.setenv("RETUNE_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return connect()


@pytest.fixture
def dag_run(request):
    return f"manual__{request.node.name}"


def toy():
    return Experiment.model_validate(
        {
            "name": "toy",
            "data": {"source": "sklearn", "dataset": "diabetes", "target": "target"},
            "problem": "regression",
            "model": {"trainer": "synapseml_lightgbm"},
            "search": {"metric": "r2", "max_trials": 1, "space": {"alpha": {"type": "uniform", "low": 0, "high": 1}}},
        }
    )


def lease(client, dag_run, stage="ingest", upstream=None, max_tries=2):
    return lease_stage(client, NAME, stage, dag_run, upstream, max_tries)


def live(client, dag_run, stage):
    found = client.search_runs(
        [client.get_experiment_by_name(NAME).experiment_id],
        f"tags.`retune.dag_run_id` = '{dag_run}' and tags.`retune.stage` = '{stage}'",
    )
    return [run.info.run_id for run in found if run_tree.SUPERSEDED_BY not in run.data.tags]


def finish(client, leased):
    run_tree.end_stage(client, leased)


def test_a_retry_goes_on_in_the_same_run_as_the_next_attempt(client, dag_run):
    first = lease(client, dag_run)
    second = lease(client, dag_run)
    assert (second.run_id, second.attempt, second.finished) == (first.run_id, 2, False)
    assert live(client, dag_run, "ingest") == [first.run_id]


def test_a_run_that_finished_while_the_worker_was_lost_is_adopted(client, dag_run):
    first = lease(client, dag_run)
    finish(client, first)
    again = lease(client, dag_run)
    assert (again.run_id, again.finished) == (first.run_id, True)
    assert client.get_run(first.run_id).info.status == "FINISHED"


def test_a_cleared_task_gets_a_new_run_and_the_old_one_is_superseded(client, dag_run):
    first = lease(client, dag_run, max_tries=2)
    finish(client, first)
    second = lease(client, dag_run, max_tries=3)
    assert second.run_id != first.run_id
    assert client.get_run(first.run_id).data.tags[run_tree.SUPERSEDED_BY] == second.run_id
    assert live(client, dag_run, "ingest") == [second.run_id]
    assert lease(client, dag_run, max_tries=3).run_id == second.run_id


def test_another_upstream_run_supersedes_a_run_that_was_not_finished(client, dag_run):
    old = lease(client, dag_run, "tune", upstream="featurize-1")
    trial = client.create_run(
        client.get_run(old.run_id).info.experiment_id,
        tags={run_tree.PARENT: old.run_id, run_tree.STAGE: "trial", run_tree.DAG_RUN: dag_run},
    )
    new = lease(client, dag_run, "tune", upstream="featurize-2")
    assert new.run_id != old.run_id
    for superseded in (old.run_id, trial.info.run_id):
        run = client.get_run(superseded)
        assert run.data.tags[run_tree.SUPERSEDED_BY] == new.run_id
        assert run.info.status == "KILLED"


def test_a_stage_run_again_makes_the_pipeline_run_again(client, dag_run):
    first = lease(client, dag_run)
    finish(client, first)
    run_tree.end_pipeline(client, run_tree.find_pipeline(client, NAME, dag_run), "FAILED")
    lease(client, dag_run, max_tries=5)
    (pipeline,) = live(client, dag_run, "pipeline")
    assert client.get_run(pipeline).info.status == "RUNNING"


def test_pipeline_runs_of_two_dag_runs_are_two(client, dag_run):
    assert lease(client, dag_run).run_id != lease(client, dag_run + "-2").run_id


def test_an_attempt_stops_once_a_newer_one_is_tagged(client, dag_run):
    stage = handoff.open_stage(client, "ingest", lease(client, dag_run), toy())
    stage.publish(data="file:///first")
    lease(client, dag_run)
    with pytest.raises(Superseded, match="attempt 1 of ingest gives way to attempt 2"):
        stage.publish(data="file:///late")
    assert client.get_run(stage.run_id).data.tags["retune.output.data"] == "file:///first"


def test_attempts_write_to_folders_of_their_own(client, dag_run):
    first = handoff.open_stage(client, "ingest", lease(client, dag_run), toy())
    second = handoff.open_stage(client, "ingest", lease(client, dag_run), toy())
    assert first.folder != second.folder
    assert ":" not in second.folder.removeprefix("file:")


def test_stages_read_the_experiment_that_ingest_resolved(client, dag_run):
    ingest = lease(client, dag_run)
    handoff.open_stage(client, "ingest", ingest, toy())
    finish(client, ingest)
    stage = handoff.open_stage(client, "featurize", lease(client, dag_run, "featurize", ingest.run_id))
    assert stage.experiment == toy()
    assert stage.upstream["ingest"].info.run_id == ingest.run_id


def test_an_unknown_upstream_run_is_refused(client):
    with pytest.raises(BadInput, match="MLflow has no run 'nowhere'"):
        handoff.lease_after(client, "featurize", "nowhere")


def test_an_upstream_run_that_is_not_finished_is_refused(client, dag_run):
    with pytest.raises(BadInput, match="is RUNNING, but featurize needs a FINISHED one"):
        handoff.lease_after(client, "featurize", lease(client, dag_run).run_id)


def test_an_upstream_run_of_another_stage_is_refused(client, dag_run):
    ingest = lease(client, dag_run)
    finish(client, ingest)
    with pytest.raises(BadInput, match="is of stage 'ingest', but a featurize run was expected"):
        handoff.lease_after(client, "tune", ingest.run_id)


def test_an_error_is_on_the_run_until_it_succeeds(client, dag_run):
    leased = lease(client, dag_run)
    run_tree.end_stage(client, leased, "no such column")
    assert client.get_run(leased.run_id).info.status == "FAILED"
    assert client.get_run(leased.run_id).data.tags[run_tree.ERROR] == "no such column"
    finish(client, lease(client, dag_run))
    run = client.get_run(leased.run_id)
    assert (run.info.status, run_tree.ERROR in run.data.tags) == ("FINISHED", False)


def test_an_attempt_that_lost_its_run_does_not_end_it(client, dag_run):
    old = lease(client, dag_run)
    new = lease(client, dag_run)
    run_tree.end_stage(client, old, "its Spark application was killed")
    assert client.get_run(new.run_id).info.status == "RUNNING"


def test_a_failed_pipeline_leaves_nothing_running_and_ends_a_stage_after_its_trials(client, dag_run):
    tune = lease(client, dag_run, "tune", upstream="featurize-1").run_id
    tags = {run_tree.PARENT: tune, run_tree.STAGE: "trial", run_tree.DAG_RUN: dag_run}
    trial = client.create_run(client.get_run(tune).info.experiment_id, tags=tags).info.run_id
    pipeline = run_tree.find_pipeline(client, NAME, dag_run)
    with mock.patch.object(client, "set_terminated", wraps=client.set_terminated) as ended:
        run_tree.end_pipeline(client, pipeline, "FAILED")
    assert [call.args for call in ended.mock_calls][1:] == [(trial, "KILLED"), (tune, "KILLED")]
    assert {client.get_run(run).info.status for run in (trial, tune)} == {"KILLED"}


def test_a_run_gone_on_with_after_a_clearing_is_adopted_when_its_worker_is_lost(client, dag_run):
    failed = lease(client, dag_run, max_tries=2)
    run_tree.end_stage(client, failed, "disk full")
    cleared = lease(client, dag_run, max_tries=5)
    assert cleared.run_id == failed.run_id
    finish(client, cleared)
    assert lease(client, dag_run, max_tries=5) == Lease(cleared.run_id, 2, finished=True)


def test_a_superseded_upstream_run_is_refused(client, dag_run):
    old = lease(client, dag_run)
    finish(client, old)
    new = lease(client, dag_run, max_tries=3)
    with pytest.raises(BadInput, match=f"was superseded by run {new.run_id}; go on from that one"):
        handoff.lease_after(client, "featurize", old.run_id)


@pytest.fixture
def tune(client, dag_run):
    ingest = lease(client, dag_run)
    handoff.open_stage(client, "ingest", ingest, toy())
    finish(client, ingest)
    featurize = lease(client, dag_run, "featurize", ingest.run_id)
    finish(client, featurize)
    return handoff.open_stage(client, "tune", lease(client, dag_run, "tune", featurize.run_id))


def end_trial(runs, number, loss=None):
    setting = {"alpha": 0.5}
    run_id = runs.start(number, setting)
    error = "disk full" if loss is None else None
    trial = Trial(number, setting, run_id, loss, {"validation_r2": 0.3}, 1.5, error)
    runs.end(trial)
    return trial


def test_trials_come_back_as_they_were_told(tune):
    runs = TrialRuns(tune)
    told = [end_trial(runs, 0, -0.3), end_trial(runs, 1)]
    cut_off = runs.start(2, {"alpha": 0.1})
    history = TrialRuns(tune).history()
    assert all(abs(trial.started_at - time.time()) < 600 for trial in history)
    assert [replace(trial, started_at=None) for trial in history] == told
    assert tune.client.get_run(cut_off).info.status == "KILLED"


class CountingClient:
    """An MLflow client that writes down what it is asked."""

    def __init__(self, client):
        self._client, self.calls = client, []

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.calls.append(name)
            return getattr(self._client, name)(*args, **kwargs)

        return call


def test_a_trial_takes_three_calls_and_its_progress_one(tune, monkeypatch):
    monkeypatch.setattr(trial_runs, "_CHECKED_EVERY_S", 3600)
    client = CountingClient(tune.client)
    runs = TrialRuns(replace(tune, client=client))
    end_trial(runs, 0, -0.3)
    assert "get_run" in client.calls  # whether a newer attempt is there
    client.calls.clear()
    for number in (1, 2):
        end_trial(runs, number, -0.3)
        runs.report(number, {"trials": number})
    assert client.calls == ["create_run", "log_batch", "set_terminated", "log_batch"] * 2


def test_an_attempt_looks_again_whether_a_newer_one_is_there(tune, client, dag_run, monkeypatch):
    monkeypatch.setattr(trial_runs, "_CHECKED_EVERY_S", 0)
    runs = TrialRuns(tune)
    end_trial(runs, 0, -0.3)
    lease(client, dag_run, "tune", tune.upstream["featurize"].info.run_id)
    with pytest.raises(Superseded):
        end_trial(runs, 1, -0.3)


def test_trials_set_aside_are_out_of_the_search(tune):
    runs = TrialRuns(tune)
    runs.set_aside([end_trial(runs, 0), end_trial(runs, 1)])
    assert runs.history() == []


def test_a_trial_of_an_attempt_that_lost_its_run_is_killed(tune, client, dag_run):
    lease(client, dag_run, "tune", tune.upstream["featurize"].info.run_id)
    with pytest.raises(Superseded):
        end_trial(TrialRuns(tune), 0, -0.3)
    (trial,) = client.search_runs([tune.experiment_id], f"tags.`mlflow.parentRunId` = '{tune.run_id}'")
    assert trial.info.status == "KILLED"
