"""Each DAG imports cleanly, has the structure it should have, and costs little to parse."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from airflow.providers.apache.spark.hooks import spark_submit
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException
from dags.conftest import ROOT, parse

from retune.job import build_parser
from retune.run_tree import STAGES as JOB_STAGES
from retune_airflow.factory import STAGES

HEAVY = ("pyspark", "hyperopt", "synapse", "xgboost", "numpy", "pandas", "sklearn", "matplotlib", "mlflow")


def test_no_import_errors(shipped):
    assert shipped.import_errors == {}


def test_each_shipped_experiment_is_a_working_dag(shipped):
    expected = {f"retune_{path.stem}" for path in (ROOT / "experiments").glob("*.yaml")}
    assert set(shipped.dags) == expected
    assert not [dag_id for dag_id, dag in shipped.dags.items() if "broken" in dag.tags]


def test_parsing_looks_up_no_connection(shipped, monkeypatch, tmp_path):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a connection was looked up while parsing")

    monkeypatch.setattr(BaseHook, "get_connection", refuse)
    assert parse(ROOT / "experiments", monkeypatch).import_errors == {}


def test_structure(shipped):
    structure = {task.task_id: sorted(task.downstream_task_ids) for task in shipped.dags["retune_diabetes"].tasks}
    assert structure == {
        "ingest": ["featurize"],
        "featurize": ["tune"],
        "tune": ["retrain"],
        "retrain": ["evaluate"],
        "evaluate": [],
    }
    assert STAGES == JOB_STAGES


def test_dag_settings(shipped):
    dag = shipped.dags["retune_diabetes"]
    assert (dag.max_active_runs, dag.catchup, dag.schedule) == (1, False, None)
    assert {"retune", "regression", "synapseml_lightgbm"} <= dag.tags
    for task in dag.tasks:
        assert task.owner == "retune"
        assert task.retries == 2
        assert task.retry_exponential_backoff
        assert task.execution_timeout == timedelta(hours=6)


def test_docs_are_rendered_from_the_file(shipped):
    doc = shipped.dags["retune_diabetes"].doc_md
    assert "Disease progression" in doc
    assert "max_trials: 12" in doc


def test_trigger_form_has_typed_fields_with_the_files_values(shipped):
    params = shipped.dags["retune_diabetes"].params
    assert params.dump() == {
        "max_trials": 12, "timeout": None, "seed": 42, "data_path": None, "spark_conn_id": "spark_default",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_trials", 0),
        ("max_trials", "8"),
        ("timeout", "soon"),
        ("seed", -1),
        ("data_path", ""),
        ("spark_conn_id", None),
    ],
)
def test_trigger_form_refuses(shipped, name, value):
    with pytest.raises(ValueError, match=name):
        shipped.dags["retune_diabetes"].params[name] = value


@pytest.mark.parametrize("stage", STAGES)
def test_rendered_arguments_parse_back(shipped, stage):
    dag = shipped.dags["retune_diabetes"]
    task = dag.get_task(stage)

    class Upstream:
        def xcom_pull(self, task_ids: str) -> str:
            return f"run-of-{task_ids}"

    path = '/data/it\'s "odd" & <new>.csv'
    params = {"max_trials": 3, "timeout": "10m", "seed": 7, "data_path": path, "spark_conn_id": "spark_default"}
    task.render_template_fields({"dag": dag, "ti": Upstream(), "params": params})
    args = build_parser(stage).parse_args([*task.application_args, "--run-id", "r", "--attempt", "2"])
    assert (args.run_id, args.attempt) == ("r", 2)
    assert task.name == f"retune_diabetes {stage}"
    if stage == "ingest":
        from retune.experiment_file import parse_params

        changed = parse_params(args.params)
        assert (changed.max_trials, changed.timeout, changed.seed, changed.data_path) == (3, 600, 7, path)
    else:
        assert args.upstream_run_id == f"run-of-{STAGES[STAGES.index(stage) - 1]}"


RESOURCES = """\
airflow:
  resources:
    all: {driver_memory: 2g, executor_memory: 3g, executors: 2, executor_cores: 4}
    tune: {executors: 5}
"""


@pytest.mark.parametrize(
    ("connection", "master"),
    [
        ({"host": "local[*]"}, ["--master", "local[*]"]),
        ({"host": "spark://head", "port": 7077}, ["--master", "spark://head:7077"]),
        ({"host": "yarn", "extra": {"queue": "tuning"}}, ["--master", "yarn"]),
        (
            {"host": "k8s://https://api", "port": 6443, "extra": {"namespace": "ml"}},
            ["--master", "k8s://https://api:6443"],
        ),
    ],
)
def test_one_file_is_submitted_to_any_cluster_with_the_resources_of_the_stage(
    monkeypatch, tmp_path, connection, master
):
    text = (ROOT / "experiments" / "diabetes.yaml").read_text()
    (tmp_path / "diabetes.yaml").write_text(text + RESOURCES)
    # Whoever submits to Kubernetes installs the provider of that name; it would double every parse of everyone else.
    monkeypatch.setattr(spark_submit, "kube_client", object(), raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", json.dumps({"conn_type": "spark", **connection}))
    dag = parse(tmp_path, monkeypatch).dags["retune_diabetes"]
    for stage, executors in (("featurize", 2), ("tune", 5)):
        task = dag.get_task(stage)
        task._conn_id = "elsewhere"  # as `execute` takes it from the trigger form
        command = task._get_hook()._build_spark_submit_command(task.application)
        given = dict(pairwise(command))
        assert command[1 : 1 + len(master)] == master
        assert given["--driver-memory"] == "2g"
        assert given["--executor-memory"] == "3g"
        assert given["--executor-cores"] == "4"
        assert given["--num-executors"] == str(executors)
        assert given["--total-executor-cores"] == str(4 * executors)
        assert ("spark.kubernetes.namespace=ml" in command) == ("k8s" in connection["host"])
        assert given.get("--queue") == ("tuning" if connection["host"] == "yarn" else None)


def test_a_broken_file_leaves_the_other_dags_alone(with_broken):
    assert with_broken.import_errors == {}
    broken = {dag_id for dag_id, dag in with_broken.dags.items() if "broken" in dag.tags}
    assert broken == {"retune_low_above_high", "retune_not_yaml", "retune_bad_cron"}
    assert "retune_diabetes" in with_broken.dags


def test_a_broken_dag_has_no_schedule_and_tells_what_is_wrong(with_broken):
    dag = with_broken.dags["retune_low_above_high"]
    assert dag.schedule is None
    (task,) = dag.tasks
    lines = (ROOT / "experiments" / "diabetes.yaml").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.strip().startswith("numLeaves:"))
    rule = "low must be less than high, but low is 40 and high is 31"
    told = rf"low_above_high\.yaml:{line}: search\.space\.numLeaves: {rule}"
    with pytest.raises(AirflowFailException, match=told):
        task.execute({})
    assert f"| {line} | search.space.numLeaves |" in dag.doc_md
    assert task.retries == 0


@pytest.mark.parametrize(
    "wanted", ["airflow: {retry_delay: 99999999999999999}", "airflow: {stage_timeout: 999999999999d}",
               f"airflow: {{tags: [{'x' * 120}]}}", 'schedule: "0 0 30 2 *"']
)  # fmt: skip
def test_nothing_a_file_says_takes_the_others_away(tmp_path, monkeypatch, wanted):
    good = (ROOT / "experiments" / "diabetes.yaml").read_text().replace("schedule: null\n", "")
    (tmp_path / "diabetes.yaml").write_text(good)
    (tmp_path / "odd.yaml").write_text(good.replace("name: diabetes", "name: odd") + wanted + "\n")
    (tmp_path / f"{'x' * 248}.yaml").write_text("name: [")
    bag = parse(tmp_path, monkeypatch)
    assert bag.import_errors == {}
    assert len(bag.dags) == 3
    assert "broken" in bag.dags["retune_odd"].tags
    assert "broken" not in bag.dags["retune_diabetes"].tags


def test_a_missing_experiments_folder_is_named(monkeypatch, tmp_path):
    (error,) = parse(tmp_path / "nowhere", monkeypatch).import_errors.values()
    assert "RETUNE_EXPERIMENTS" in error


def test_parsing_imports_nothing_heavy():
    code = (
        f"import runpy, sys; runpy.run_path('dags/retune_dags.py'); print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_plugin_loader_leaves_the_package_alone():
    """Airflow would run each module of it under its bare name, and `operator` would shadow the standard library's."""
    from airflow.plugins_manager import _get_plugins

    _get_plugins()
    assert sys.modules["operator"].__name__ == "operator"
    assert "retune_airflow" not in getattr(sys.modules["operator"], "__file__", "")
