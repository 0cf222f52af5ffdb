"""`runner: spark_trials`: the search as `hyperopt.SparkTrials` runs it, logged from its workers."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from retune import run_tree
from retune.data.table import Table
from retune.errors import AllTrialsFailed
from retune.handoff import Stage
from retune.placements import spark_trials
from retune.placements.spark_trials import run_spark_trials
from retune.placements.task_rows import shared
from retune.placements.task_trial import TaskTrial
from retune.search.trial import Trial
from retune.trial_runs import TrialRuns, read_trials

DEPTH = {"type": "uniformint", "low": 1, "high": 4}
SPACE = {
    "kind": {"type": "choice", "options": [{"max_depth": DEPTH}, {"splitter": "random"}]},
    "min_samples_leaf": {"type": "uniformint", "low": 1, "high": 9},
}


@pytest.fixture
def stage(build_experiment, tmp_path, monkeypatch):
    """A tune stage with a tracking store of its own."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("e"), tags={run_tree.DAG_RUN: "d", run_tree.ATTEMPT: "1"})
    experiment = build_experiment(
        model={"trainer": "sklearn", "fixed": {"estimator": "sklearn.tree.DecisionTreeRegressor"}},
        search={"metric": "r2", "max_trials": 3, "seed": 1, "runner": "spark_trials", "space": SPACE},
    )
    return Stage(client, "tune", run, 1, experiment)


@pytest.fixture
def trial(spark, stage):
    """What trials share: 80 rows of one feature, which is the label too."""
    values = np.arange(80.0)
    table = Table(values.reshape(-1, 1), values, np.where(values % 4 == 0, 0, -1).astype(np.int32))
    with shared(spark, table, stage.run_id) as files:
        yield TaskTrial(stage.experiment, files, [], threads=1)


def test_each_trial_is_logged_by_its_worker_and_the_best_is_found(spark, stage, trial):
    result = run_spark_trials(spark, stage, trial, 2)
    kept = read_trials(stage.client, stage.run)
    assert sorted(each.number for each in kept) == sorted(each.number for each in result.trials) == [0, 1, 2]
    assert result.best.loss == min(each.loss for each in kept)
    for each in kept:
        params = stage.client.get_run(each.run_id).data.params
        assert params["min_samples_leaf"] == str(each.setting["min_samples_leaf"])
        assert {"validation_r2", "fit_s"} <= each.metrics.keys()
        assert stage.client.get_run(each.run_id).info.run_name == f"trial {each.number}"


def test_with_parallelism_one_no_two_trials_overlap(spark, stage, trial):
    spans = sorted((each.started_at, each.duration_s) for each in run_spark_trials(spark, stage, trial, 1).trials)
    assert len(spans) == 3
    assert all(began + lasted <= then for (began, lasted), (then, _) in pairwise(spans))


def test_when_all_fail_the_reason_is_told(spark, stage, trial):
    model = stage.experiment.model.model_copy(update={"fixed": {"estimator": "sklearn.tree.DecisionTreeRegressor",
                                                                "criterion": "none"}})  # fmt: skip
    broken = TaskTrial(stage.experiment.model_copy(update={"model": model}), trial.files, [], threads=1)
    with pytest.raises(AllTrialsFailed, match=r"none of 3 trials can be the best: 3 × InvalidParameterError: .*criter"):
        run_spark_trials(spark, stage, broken, 2)
    assert {run.info.status for run in run_tree.children(stage.client, stage.run, "trial")} == {"FAILED"}


def test_when_workers_do_not_reach_mlflow_the_reason_is_told(spark, stage, trial, tmp_path, monkeypatch):
    monkeypatch.setattr(spark_trials.settings, "tracking_uri", lambda: f"file://{tmp_path}/mlruns")  # refused
    with pytest.raises(AllTrialsFailed, match=r"^none of 3 trials .* 3 × .*MlflowException: The filesystem"):
        run_spark_trials(spark, stage, trial, 2)


def test_its_time_and_the_loss_that_is_enough_end_it_and_the_reason_is_told(spark, stage, trial):
    began = time.monotonic()
    enough = run_spark_trials(spark, *changed(stage, trial, max_trials=1000, loss_threshold=-1000), 1)
    assert 1 <= len(enough.trials) <= 12
    assert enough.stop_reason == "loss_threshold = -1000 reached"
    # How long a trial takes hangs on the machine: its new worker imports all there is.
    timeout = round(2 * (time.monotonic() - began))
    timed = run_spark_trials(spark, *changed(stage, trial, max_trials=1000, timeout=timeout), 1)
    assert 1 <= len(timed.trials) < 1000
    assert timed.stop_reason == "fmin run timeout"
    with pytest.raises(AllTrialsFailed, match=r"^none of .*: fmin run timeout"):
        run_spark_trials(spark, *changed(stage, trial, max_trials=1000, timeout="1s"), 1)


def changed(stage, trial, **search):
    """Return both with another section `search`."""
    section = {**stage.experiment.search.model_dump(mode="json"), **search}
    experiment = stage.experiment.model_copy(update={"search": type(stage.experiment.search).model_validate(section)})
    return replace(stage, experiment=experiment), replace(trial, experiment=experiment)


def test_a_parameter_whose_name_a_function_took_gets_a_suffix(stage):
    tracker, client = TrialRuns(stage, shared=True), stage.client
    run_id = tracker.start(0, {"kind": {"max_depth": 3}, "min_samples_leaf": 5})
    client.log_param(run_id, "min_samples_leaf", "a word of the function's own")
    client.log_param(run_id, "max_depth", "3")
    tracker.end(Trial(0, {"kind": {"max_depth": 3}, "min_samples_leaf": 5}, run_id, loss=1.0))
    params = client.get_run(run_id).data.params
    assert params.pop("min_samples_leaf") == "a word of the function's own"
    assert params.pop("max_depth") == "3"
    ((name, value),) = params.items()
    assert re.fullmatch(r"min_samples_leaf_[0-9a-f]{32}", name)
    assert value == "5"
