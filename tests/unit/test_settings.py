"""Where state lives, by default and as the environment says."""

import re
from pathlib import Path

import pytest

from retune import settings

ROOT = Path(__file__).parents[2]
VARIABLES = ["RETUNE_HOME", "RETUNE_EXPERIMENTS", "RETUNE_WORKSPACE", "RETUNE_MLFLOW_UI", "MLFLOW_TRACKING_URI"]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_by_default_all_state_lies_beside_the_code():
    assert settings.home() == ROOT / ".retune"
    assert settings.experiments_folder() == ROOT / "experiments"
    assert settings.workspace() == (ROOT / ".retune" / "data").as_uri()
    assert settings.tracking_uri() == f"sqlite:///{ROOT}/.retune/mlflow.db"
    assert settings.artifact_root() == (ROOT / ".retune" / "artifacts").as_uri()
    assert settings.mlflow_ui() == "http://127.0.0.1:5000"


def test_all_state_follows_retune_home(monkeypatch, tmp_path):
    monkeypatch.setenv("RETUNE_HOME", str(tmp_path))
    assert settings.workspace() == f"file://{tmp_path}/data"
    assert settings.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert settings.artifact_root() == f"file://{tmp_path}/artifacts"


def test_a_relative_home_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETUNE_HOME", "state")
    assert settings.home() == tmp_path / "state"


@pytest.mark.parametrize(
    ("variable", "function", "value", "result"),
    [
        ("RETUNE_EXPERIMENTS", settings.experiments_folder, "/srv/experiments", Path("/srv/experiments")),
        ("RETUNE_WORKSPACE", settings.workspace, "hdfs://name/retune/", "hdfs://name/retune"),
        ("MLFLOW_TRACKING_URI", settings.tracking_uri, "http://mlflow:5000", "http://mlflow:5000"),
        ("MLFLOW_TRACKING_URI", settings.artifact_root, "http://mlflow:5000", None),
        ("MLFLOW_TRACKING_URI", settings.mlflow_ui, "https://u:p@mlflow:5000/", "https://mlflow:5000"),
        ("MLFLOW_TRACKING_URI", settings.mlflow_ui, "postgresql://db/mlflow", "http://127.0.0.1:5000"),
        ("RETUNE_MLFLOW_UI", settings.mlflow_ui, "https://mlflow.example.org/", "https://mlflow.example.org"),
    ],
)
def test_the_environment_decides(monkeypatch, variable, function, value, result):
    monkeypatch.setenv(variable, value)
    assert function() == result


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_empty_variable_is_as_good_as_none(monkeypatch, variable):
    functions = (
        settings.home,
        settings.experiments_folder,
        settings.workspace,
        settings.tracking_uri,
        settings.mlflow_ui,
    )
    without = [function() for function in functions]
    monkeypatch.setenv(variable, "")
    assert [function() for function in functions] == without


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://retune:secret@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("postgresql+psycopg2://retune:se/cr%40et@db/mlflow", "postgresql+psycopg2://db/mlflow"),
        ("https://token@mlflow.example.org/api", "https://mlflow.example.org/api"),
        ("https://mlflow.example.org/a@b", "https://mlflow.example.org/a@b"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("abfss://rows@me3.dfs.core.windows.net/a.csv", "abfss://rows@me3.dfs.core.windows.net/a.csv"),
        ("wasbs://rows@me3.blob.core.windows.net/a.csv", "wasbs://rows@me3.blob.core.windows.net/a.csv"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_a_password_is_not_shown(uri, shown):
    assert settings.without_password(uri) == shown


def test_java_is_found_by_java_home_or_else_on_the_path(tmp_path, monkeypatch):
    java = tmp_path / "bin" / "java"
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert re.search(r"JAVA_HOME = .* has no bin/java; run `make setup`", settings.why_no_java() or "")
    java.parent.mkdir()
    java.touch(mode=0o755)
    assert settings.why_no_java() is None
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "JAVA_HOME is not set, no java on the PATH" in (settings.why_no_java() or "")
    monkeypatch.setenv("PATH", str(java.parent))
    assert settings.why_no_java() is None


def test_a_run_has_a_page(monkeypatch):
    monkeypatch.setenv("RETUNE_MLFLOW_UI", "https://mlflow.example.org/")
    assert settings.run_page("7", "abc").startswith("https://mlflow.example.org/#/experiments/7/runs/abc?")
