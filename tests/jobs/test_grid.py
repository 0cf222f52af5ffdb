"""A cross-validated grid by real jobs, killed within a family of settings that share their fits; then retrain."""

from __future__ import annotations

import csv
import io
import json

import mlflow
import pytest
from flights import EXPERIMENT, write_flights
from jobs.conftest import Jobs

MODEL = """\
model:
  trainer: xgboost
  fixed: {objective: "multi:softprob", max_depth: 4, reg_alpha: 1, reg_lambda: 1, learning_rate: 0.1}
search:
  engine: grid
  metric: log_loss
  validation: {type: cross_validation, folds: 3}
  space:
    n_estimators: {type: choice, options: [5, 30, 15]}
    colsample_bylevel: {type: choice, options: [0.5, 1]}
    subsample: {type: choice, options: [0.5, 1]}
"""
DOOMED = '''
"""The tune job, killed while it writes the result of its fifth trial: the second of a family of three."""
import os
import signal
import sys

from retune import trial_runs
from retune.job import main
from retune.stages import tune


class TrialRuns(trial_runs.TrialRuns):
    def end(self, trial):
        if trial.number == 4:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        super().end(trial)


tune.TrialRuns = TrialRuns
sys.exit(main("tune"))
'''


@pytest.fixture(scope="module")
def grid_chain(tmp_path_factory):
    """Ingest to retrain; tune is killed once and goes on."""
    folder = tmp_path_factory.mktemp("grid chain")
    jobs, experiment = Jobs(folder / "home"), write_flights(folder)
    head, _, rest = EXPERIMENT.partition("model:\n")
    experiment.write_text(head + MODEL + "airflow:" + rest.partition("airflow:")[2])
    jobs.run("ingest", "--experiment", str(experiment))
    jobs.run("featurize", "--upstream-run-id", jobs.runs["ingest"])
    (folder / "doomed.py").write_text(DOOMED)
    killed = jobs.start_script(folder / "doomed.py", "--upstream-run-id", jobs.runs["featurize"])
    output, _ = killed.communicate(timeout=300)
    assert killed.returncode == -9, output
    jobs.run("tune", "--upstream-run-id", jobs.runs["featurize"])
    jobs.run("retrain", "--upstream-run-id", jobs.runs["tune"])
    return jobs


def text(jobs: Jobs, path: str) -> str:
    uri = jobs.client.get_run(jobs.runs["tune"]).info.artifact_uri
    return mlflow.artifacts.load_text(f"{uri}/{path}")


def finished(jobs: Jobs):
    tune = jobs.client.get_run(jobs.runs["tune"])
    runs = jobs.client.search_runs([tune.info.experiment_id], "tags.`retune.stage` = 'trial'")
    ended = {int(run.data.tags["retune.trial"]): run for run in runs if run.info.status == "FINISHED"}
    return [ended[number] for number in sorted(ended)]


def test_no_trial_is_lost_and_each_tells_whose_fit_it_shares(grid_chain):
    trials = finished(grid_chain)
    assert len(trials) == 12
    makers = [run.data.metrics.get("fit_of_trial", number) for number, run in enumerate(trials)]
    families = [makers[start : start + 3] for start in range(0, 12, 3)]
    assert all(set(family) <= set(range(3 * n, 3 * n + 3)) for n, family in enumerate(families))
    assert families[0] in ([0, 0, 0], [1, 1, 1], [2, 2, 2])
    # One a family, and one more of each of the two that the kill may have met.
    assert 4 <= len({maker for family in families for maker in family}) <= 6


def test_the_sweep_is_told_as_scikit_learn_does(grid_chain):
    lines = text(grid_chain, "sweeping_results.txt").splitlines()
    assert lines[0] == "metric =  neg_log_loss"
    assert len(lines) == 13
    for line, run in zip(lines[1:], finished(grid_chain), strict=True):
        params = run.data.params
        assert line.startswith(f"mean: {-run.data.metrics['validation_log_loss']:.5f}, std: 0.")
        assert line.endswith(
            f"params: {{'colsample_bylevel': {params['colsample_bylevel']}, "
            f"'n_estimators': {params['n_estimators']}, 'subsample': {params['subsample']}}}"
        )


def test_table_and_figure_are_there_and_the_best_is_logged(grid_chain):
    rows = list(csv.DictReader(io.StringIO(text(grid_chain, "sweeping_results.csv"))))
    best = max(rows, key=lambda row: float(row["mean"]))
    tune = grid_chain.client.get_run(grid_chain.runs["tune"])
    assert -float(best["mean"]) == pytest.approx(tune.data.metrics["validation_log_loss"])
    setting = json.loads(grid_chain.output("tune", "best_setting"))
    assert {name: float(best[f"param_{name}"]) for name in setting} == setting
    paths = [file.path for file in grid_chain.client.list_artifacts(grid_chain.runs["tune"])]
    assert "sweeping_results.png" in paths


def test_retrain_fits_the_best_setting_to_train_and_validation(grid_chain):
    client = grid_chain.client
    mlflow.set_tracking_uri(grid_chain.settings.get("MLFLOW_TRACKING_URI", f"sqlite:///{grid_chain.home}/mlflow.db"))
    best = next(run for run in finished(grid_chain) if run.data.tags.get("retune.best") == "true")
    tuned = client.get_run(grid_chain.runs["tune"]).data.metrics
    retrained = client.get_run(grid_chain.runs["retrain"]).data.metrics
    assert retrained["fit_rows"] == tuned["fit_rows"] + tuned["validation_rows"]
    [model] = mlflow.sklearn.load_model("models:/retune_flights@challenger").named_steps["model"].estimators_
    assert model.get_params()["n_estimators"] == int(best.data.params["n_estimators"])
    assert model.get_params()["subsample"] == float(best.data.params["subsample"])
    assert model.get_booster().num_boosted_rounds() == int(best.data.params["n_estimators"])
