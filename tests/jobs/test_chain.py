"""The five jobs in order, as a user runs them by hand; what each leaves in MLflow and on disk."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest

STAGES = ("ingest", "featurize", "tune", "retrain", "evaluate")


def runs_of(jobs, stage):
    client = jobs.client
    experiment = client.get_experiment_by_name("retune/flights").experiment_id
    return client.search_runs([experiment], f"tags.`retune.stage` = '{stage}'", order_by=["attributes.start_time ASC"])


def read_split(jobs, name):
    folder = jobs.output("featurize", name).removeprefix("file://")
    return ds.dataset(folder).to_table().to_pandas()


def test_run_tree(chain):
    (pipeline,) = runs_of(chain, "pipeline")
    assert pipeline.info.status == "FINISHED"
    for stage in STAGES:
        (run,) = runs_of(chain, stage)
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == pipeline.info.run_id
    (tune,) = runs_of(chain, "tune")
    trials = runs_of(chain, "trial")
    assert len(trials) == 4
    assert {trial.data.tags["mlflow.parentRunId"] for trial in trials} == {tune.info.run_id}


def test_each_trial_has_its_model_and_what_mlflow_logs_by_itself_where_the_file_wants_so(chain):
    trials = runs_of(chain, "trial")
    assert all(len(trial.outputs.model_outputs) == 1 for trial in trials)
    logged = runs_of(chain, "autolog")
    assert [run.data.tags["mlflow.parentRunId"] for run in logged] == [trial.info.run_id for trial in trials]
    assert {run.info.status for run in logged} == {"FINISHED"}
    for trial, run in zip(trials, logged, strict=True):
        assert run.data.params["numLeaves"] == trial.data.params["numLeaves"]


def test_each_stage_names_the_run_it_went_on_from(chain):
    upstream = [chain.tags(stage).get("retune.upstream_run_id") for stage in STAGES]
    assert upstream == [None, *[chain.runs[stage] for stage in STAGES[:-1]]]


def test_ingest_logs_what_it_saw(chain):
    profile = chain.artifact("ingest", "profile.json")
    assert (profile["rows"], profile["rows_without_target"]) == (594, 6)
    assert profile["classes"] == ["early", "late", "on time"]
    assert profile["schema"] == {
        "flight no.": "string", "carrier": "string", "dist.km": "double", "rain": "boolean", "stops": "bigint",
        "arrival": "string",
    }  # fmt: skip
    (dataset,) = chain.client.get_run(chain.runs["ingest"]).inputs.dataset_inputs
    assert dataset.dataset.digest == profile["fingerprint"][:8]


def test_the_resolved_experiment_is_on_the_pipeline_run(chain):
    (pipeline,) = runs_of(chain, "pipeline")
    path = Path(pipeline.info.artifact_uri.removeprefix("file://")) / "experiment.json"
    assert json.loads(path.read_text())["search"]["max_trials"] == 4


def test_splits_are_disjoint_and_exhaustive(chain):
    identities = {name: set(read_split(chain, name)["retune_row_id"]) for name in ("train", "validation", "test")}
    assert sum(map(len, identities.values())) == len(set().union(*identities.values())) == 594


def test_no_test_row_reaches_tune_or_retrain(chain):
    """The chain moved the test rows away before tune and put them back after retrain; what was read is proven too."""
    fitted = pd.concat([read_split(chain, "train"), read_split(chain, "validation")])
    held_back = read_split(chain, "test")
    assert not set(fitted["retune_row_id"]) & set(held_back["retune_row_id"])
    assert not set(fitted["flight no."]) & set(held_back["flight no."])
    for stage in ("tune", "retrain"):
        assert chain.client.get_run(chain.runs[stage]).data.metrics["fit_rows"] + (
            len(read_split(chain, "validation")) if stage == "tune" else 0
        ) == len(fitted)


def test_trials_show_values_not_indices(chain):
    for run in runs_of(chain, "trial"):
        setting, params = json.loads(run.data.tags["retune.setting"]), run.data.params
        assert set(setting) == {"numIterations", "numLeaves", "booster"}
        assert setting["booster"]["boostingType"] == params["boostingType"]
        assert params["boostingType"] in ("gbdt", "goss")
        assert ("topRate" in params) == (params["boostingType"] == "goss")
        assert int(params["numIterations"]) % 5 == 0
        assert "booster" not in params


def test_trials_have_metrics_of_train_and_validation(chain):
    for run in runs_of(chain, "trial"):
        wanted = {"train_accuracy", "validation_accuracy", "validation_f1", "duration_s", "search_loss"}
        assert wanted <= set(run.data.metrics)
        assert run.data.metrics["search_loss"] == -run.data.metrics["validation_accuracy"]


def test_the_best_trial_is_marked_and_handed_on(chain):
    trials = runs_of(chain, "trial")
    best = min(trials, key=lambda run: run.data.metrics["search_loss"])
    assert [run.info.run_id for run in trials if "retune.best" in run.data.tags] == [chain.output("tune", "best_trial")]
    tagged = chain.client.get_run(chain.output("tune", "best_trial"))
    assert best.data.metrics["search_loss"] == tagged.data.metrics["search_loss"]
    assert chain.client.get_run(chain.runs["tune"]).data.metrics["parallel_trials"] == 1


def test_evaluate_scores_all_models_on_the_test_rows(chain):
    metrics = chain.client.get_run(chain.runs["evaluate"]).data.metrics
    expected = {
        f"{model}_test_{name}" for model in ("untuned", "challenger") for name in ("accuracy", "f1", "auc", "log_loss")
    }
    assert set(metrics) == expected
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["challenger_test_accuracy"] > 0.7


def test_the_first_challenger_becomes_champion(chain):
    version = chain.client.get_model_version_by_alias("retune_flights", "champion")
    assert str(version.version) == chain.output("retrain", "challenger")
    assert "no champion yet" in json.loads(chain.tags("evaluate")["retune.promotion"])["reason"]


@pytest.mark.parametrize(("stage", "plot"), [("tune", "search.png"), ("evaluate", "confusion_matrix.png")])
def test_plots_are_logged(chain, stage, plot):
    assert plot in [file.path for file in chain.client.list_artifacts(chain.runs[stage])]


def test_the_summary_is_on_the_pipeline_run(chain):
    (pipeline,) = runs_of(chain, "pipeline")
    text = pipeline.data.tags["mlflow.note.content"]
    for stage in STAGES:
        assert chain.runs[stage] in text
    assert "tuned (challenger)" in text
    assert re.search(r"## What the tuned model goes by\n.*\n.*\n\| dist\.km +\| 0\.\d{3}", text)


def test_the_challengers_importances_are_logged_by_name(chain):
    path = chain.client.download_artifacts(chain.runs["retrain"], "importances.csv")
    found = pd.read_csv(path)
    assert list(found.columns) == ["feature", "importance"]
    assert found["feature"][0] == "dist.km"
    assert set(found["feature"]) <= {"carrier", "dist.km", "rain", "stops"}
    assert found["importance"].is_monotonic_decreasing
    assert found["importance"].sum() == pytest.approx(1)


def test_the_model_scores_raw_rows_in_a_fresh_process(chain, tmp_path):
    """By MLflow's pyfunc and by its Spark flavour, with missing values and a category never seen, nothing imported."""
    code = """
import sys, mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
rows = pd.read_csv(sys.argv[2]).drop(columns=["arrival", "flight no."]).head(20)
rows.loc[3, "carrier"] = "never seen"
model = mlflow.pyfunc.load_model("models:/retune_flights@challenger")
by_pyfunc = list(model.predict(rows))
by_spark = mlflow.spark.load_model("models:/retune_flights@challenger")
from pyspark.sql import SparkSession
frame = SparkSession.getActiveSession().read.csv(sys.argv[2], header=True, inferSchema=True)
predicted = [row.prediction for row in by_spark.transform(frame.drop("arrival")).limit(20).collect()]
assert len(by_pyfunc) == 20 and set(by_pyfunc) <= {"early", "late", "on time"}, by_pyfunc
differing = [i for i, (a, b) in enumerate(zip(by_pyfunc, predicted)) if a != b]
assert differing in ([], [3]), differing
print("both loaded")
"""
    csv = chain.home.parent / "flights.csv"
    arguments = [sys.executable, "-c", code, f"sqlite:///{chain.home}/mlflow.db", str(csv)]
    done = subprocess.run(arguments, env=chain.environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "both loaded"


def test_the_model_says_what_it_needs(chain):
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{chain.home}/mlflow.db")
    info = mlflow.models.get_model_info("models:/retune_flights@challenger")
    assert [column.name for column in info.signature.inputs] == ["carrier", "dist.km", "rain", "stops"]
    assert [column.type.name for column in info.signature.outputs] == ["string"]
    folder = mlflow.artifacts.download_artifacts("models:/retune_flights@challenger")
    requirements = (Path(folder) / "requirements.txt").read_text()
    assert "synapseml==" in requirements
    assert (Path(folder) / "input_example.json").exists()


def test_the_same_seed_gives_the_same_trials_and_the_same_best(chain, tmp_path):
    again = type(chain)(chain.home)
    csv = chain.home.parent / "flights.yaml"
    again.run("ingest", "--experiment", str(csv))
    again.run("featurize", "--upstream-run-id", again.runs["ingest"])
    again.run("tune", "--upstream-run-id", again.runs["featurize"])
    trials = {stage: [] for stage in ("first", "second")}
    for run in runs_of(chain, "trial"):
        which = "first" if run.data.tags["mlflow.parentRunId"] == chain.runs["tune"] else "second"
        trials[which].append((run.data.tags["retune.setting"], run.data.metrics["search_loss"]))
    assert len(trials["first"]) == 4
    assert trials["first"] == trials["second"]
    assert again.output("tune", "best_setting") == chain.output("tune", "best_setting")
