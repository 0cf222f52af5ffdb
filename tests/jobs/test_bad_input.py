"""Bad input: one clear line, an exit code of its own, a FAILED run where there is one, and nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile

import pandas as pd
import pytest
from jobs.conftest import ROOT
from mlflow.tracking import MlflowClient

from retune import job
from retune.errors import BadInput, TrackingUnreachable
from retune.job import main
from retune.stages import ingest

TABLE = "a,b,y\n" + "\n".join(f"{n},{'x' if n % 2 else 'z'},{n * n % 7}" for n in range(200)) + "\n"
FILE = """\
name: toy
data: {source: file, path: toy.csv, target: y}
problem: regression
model: {trainer: synapseml_lightgbm, untuned: {numLeaves: 4}}
search:
  metric: r2
  max_trials: 1
  space:
    learningRate: {type: uniform, low: 0.1, high: 0.3}
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master local[2] pyspark-shell")
    return tmp_path


def run_ingest(folder, text=FILE, table=TABLE):
    (folder / "toy.yaml").write_text(text)
    if table is not None:
        (folder / "toy.csv").write_text(table)
    return main("ingest", ["--experiment", str(folder / "toy.yaml")])


def stage_runs(home):
    client = MlflowClient(f"sqlite:///{home}/home/mlflow.db")
    experiment = client.get_experiment_by_name("retune/toy")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return [run for run in runs if run.data.tags["retune.stage"] != "pipeline"]


def written(home):
    data = home / "home" / "data"
    return list(data.rglob("*.parquet")) if data.exists() else []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "numLeaves: 4",
            "numLeavs: 4",
            "model.untuned.numLeavs: synapseml_lightgbm has no such parameter; did you mean",
        ),
        ("numLeaves: 4", "numLeaves: many", "model.untuned.numLeaves = 'many': must be a whole number"),
        ("learningRate: {", "numIterations: {", "search.space.numIterations = .*draws fractions"),
        ("numLeaves: 4", "featuresCol: a", "model.untuned.featuresCol: synapseml_lightgbm has no such parameter"),
    ],
)
def test_parameters_are_checked_before_a_session_starts(home, monkeypatch, caplog, old, new, message):
    def refuse(name):
        raise AssertionError("a Spark session was started")

    monkeypatch.setattr(ingest, "spark_session", refuse)
    assert run_ingest(home, FILE.replace(old, new)) == BadInput.exit_code
    assert_one_failed_run(home, caplog, message)


@pytest.mark.parametrize(("old", "new"), [("numLeaves: 4", "numLeavs: 4"), ("metric: r2", "metric: r3")])
def test_a_submitted_ingest_starts_spark_early_only_for_a_file_that_reads_well(home, monkeypatch, old, new):
    started = []
    monkeypatch.setattr(job, "start_early", lambda: started.append(True))
    (home / "toy.yaml").write_text(FILE)
    submitted = ["--experiment", str(home / "toy.yaml"), "--run-id", "unknown"]
    assert main("ingest", submitted) == BadInput.exit_code
    assert started == [True]
    (home / "toy.yaml").write_text(FILE.replace(old, new))
    assert main("ingest", submitted) == BadInput.exit_code
    assert started == [True]


@pytest.mark.parametrize(
    ("old", "new", "table", "message"),
    [
        ("target: y", "target: nope", TABLE, "data.target = 'nope': no such column in the data; it has a, b, y"),
        ("path: toy.csv", "path: none.csv", TABLE, "data.path = file:.*none.csv: .*does not exist"),
        ("", "", "a,b,y\n", "data: no rows to learn from"),
        ("", "", "a,b,y\n1,x,\n2,z,\n", "no rows to learn from"),
        ("", "", TABLE.replace(",1\n", ",5\n").replace(",2\n", ",5\n").replace(",4\n", ",5\n").replace(",0\n", ",5\n"),
         "data.target = 'y': is a constant"),
        ("target: y", "target: b", TABLE, "data.target = 'b': regression needs a number, but the column is string"),
        ("regression", "binary", TABLE, "data.target = 'y': has more than 2 classes"),
        ("regression", "multiclass", "a,y\n1,one\n2,one\n", "data.target = 'y': is one class only, 'one'"),
    ],
)  # fmt: skip
def test_data_are_checked_before_anything_is_written(home, caplog, old, new, table, message):
    text = FILE.replace(old, new) if old else FILE
    if new in ("binary", "multiclass"):
        text = text.replace("metric: r2", "metric: accuracy")
    assert run_ingest(home, text, table) == BadInput.exit_code
    assert_one_failed_run(home, caplog, message)
    assert written(home) == []


def assert_one_failed_run(home, caplog, message):
    (run,) = stage_runs(home)
    assert run.info.status == "FAILED"
    (last,) = [record for record in caplog.records if record.levelname == "ERROR" and record.name == "retune"]
    assert "\n" not in last.getMessage()
    with pytest.raises(BadInput, match=message):
        raise BadInput(run.data.tags["retune.error"])
    assert run.data.tags["retune.error"] in last.getMessage()


def test_rows_too_few_for_the_split_fail_featurize(home, caplog):
    assert run_ingest(home, table="".join(TABLE.splitlines(keepends=True)[:25])) == 0
    (run,) = stage_runs(home)
    assert main("featurize", ["--upstream-run-id", run.info.run_id]) == BadInput.exit_code
    assert "would have" in caplog.text
    assert "rows, but needs 10 at least" in caplog.text
    failed = next(run for run in stage_runs(home) if run.data.tags["retune.stage"] == "featurize")
    assert failed.info.status == "FAILED"


@pytest.mark.parametrize("text", ["name: [", "name: toy\n", FILE.replace("max_trials: 1", "max_trials: none")])
def test_a_broken_file_makes_no_run(home, text):
    assert run_ingest(home, text) == BadInput.exit_code
    assert stage_runs(home) == []


def test_missing_java_is_named(home, monkeypatch, caplog):
    monkeypatch.setenv("JAVA_HOME", str(home / "nowhere"))
    assert run_ingest(home) == BadInput.exit_code
    assert "Spark needs Java" in caplog.text


def test_an_unreachable_mlflow_is_named_without_its_password(home, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:hush@127.0.0.1:9")
    assert run_ingest(home) == TrackingUnreachable.exit_code
    assert "MLflow at http://127.0.0.1:9 did not answer in 4 tries" in caplog.text
    assert "hush" not in "".join(record.getMessage() for record in caplog.records if record.name == "retune")


def test_missing_jars_are_named(home):
    (home / "toy.yaml").write_text(FILE)
    (home / "toy.csv").write_text(TABLE)
    (home / "no-spark-conf").mkdir()
    job = subprocess.run(
        [
            "spark-submit",
            "--master",
            "local[1]",
            str(ROOT / "jobs" / "ingest.py"),
            "--experiment",
            str(home / "toy.yaml"),
        ],
        env={**os.environ, "SPARK_CONF_DIR": str(home / "no-spark-conf")},
        capture_output=True,
        text=True,
    )
    assert job.returncode == BadInput.exit_code
    assert "SynapseML's jars are not on Spark's class path; run `make setup`" in job.stdout


TYPED = FILE.replace("target: y}", "target: y, types: {a: bigint, y: double}, max_bad_rows: 1}")
ONE_BAD = TABLE.replace("\n7,", "\nseven,")


def test_bad_rows_are_kept_aside_and_counted(home, caplog):
    assert run_ingest(home, TYPED, ONE_BAD) == 0
    (run,) = stage_runs(home)
    assert (run.data.metrics["bad_rows"], run.data.metrics["rows"]) == (1, 199)
    kept = pd.read_parquet(run.data.tags["retune.output.quarantine"].removeprefix("file://") + "/data")
    assert json.loads(kept["retune_bad"][0]) == {"a": "seven", "b": "x", "y": "0"}
    assert "toy.csv: 1 bad rows, kept in" in caplog.text


def test_more_bad_rows_than_allowed_fail_ingest(home, caplog):
    assert run_ingest(home, TYPED, ONE_BAD.replace("\n9,", "\nnine,")) == BadInput.exit_code
    assert_one_failed_run(
        home, caplog, r"toy.csv: 2 bad rows, kept in .*; the first: .*seven.*data.max_bad_rows, now 1"
    )


def test_a_zip_is_unpacked_and_holds_one_file(home, caplog):
    text = FILE.replace("toy.csv", "toy.csv.zip")
    with zipfile.ZipFile(home / "toy.csv.zip", "w") as archive:
        archive.writestr("toy.csv", TABLE)
    assert run_ingest(home, text, None) == 0
    with zipfile.ZipFile(home / "toy.csv.zip", "a") as archive:
        archive.writestr("more.csv", TABLE)
    assert run_ingest(home, text, None) == BadInput.exit_code
    assert "toy.csv.zip: a zip must hold one file, but this one holds 2 (toy.csv, more.csv)" in caplog.text


def test_a_connection_has_to_be_told_by_hand(home, caplog, tmp_path):
    blob = "{source: http, path: http://127.0.0.1:9/toy.csv, connection: blobs, target: y}"
    text = FILE.replace("{source: file, path: toy.csv, target: y}", blob)
    assert run_ingest(home, text) == BadInput.exit_code
    assert_one_failed_run(home, caplog, "data.connection = 'blobs': by hand, a job is told the connection by --cred")
