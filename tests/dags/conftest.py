"""The DAG file parsed as Airflow parses it, over experiments that ship and over a folder with a broken one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

ROOT = Path(__file__).parents[2]


def parse(experiments: Path, monkeypatch: pytest.MonkeyPatch) -> DagBag:
    monkeypatch.setenv("RETUNE_EXPERIMENTS", str(experiments))
    return DagBag(dag_folder=str(ROOT / "dags"), load_op_links=False)


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> DagBag:
    return parse(ROOT / "experiments", monkeypatch)


@pytest.fixture
def with_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DagBag:
    good = (ROOT / "experiments" / "diabetes.yaml").read_text()
    shutil.copy(ROOT / "experiments" / "diabetes.yaml", tmp_path)
    (tmp_path / "low_above_high.yaml").write_text(
        good.replace("name: diabetes", "name: low_above_high").replace("low: 3, high: 31", "low: 40, high: 31")
    )
    (tmp_path / "not yaml.yaml").write_text("name: [")
    (tmp_path / "bad_cron.yaml").write_text(
        good.replace("name: diabetes", "name: bad_cron").replace("schedule: null", 'schedule: "every day"')
    )
    return parse(tmp_path, monkeypatch)
