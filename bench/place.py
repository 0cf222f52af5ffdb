"""A RETUNE_HOME for the bench alone, so that no measurement touches the user's state or depends on it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from measure import time_process

ROOT = Path(__file__).resolve().parents[1]
BENCH_DAGS = ROOT / "bench" / "dags"


@dataclass(frozen=True, eq=False)
class Place:
    """Where the measured processes run.

    Attributes:
        home: Their RETUNE_HOME.
        env: Their environment: the caller's, but for all state.
    """

    home: Path
    env: dict[str, str]

    @property
    def tracking_uri(self) -> str:
        return self.env["MLFLOW_TRACKING_URI"]


@contextmanager
def temporary_place() -> Iterator[Place]:
    """Make the folder with both databases migrated, as `make setup` leaves them; remove it at the end."""
    home = Path(tempfile.mkdtemp(prefix="retune-bench-")).resolve()
    paths = [str(ROOT / "jobs"), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")},
        "RETUNE_HOME": str(home),
        "RETUNE_WORKSPACE": f"file://{home}/data",
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow/airflow.db",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[*]"}),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    env.pop("RETUNE_EXPERIMENTS", None)
    place = Place(home, env)
    try:
        time_process(["airflow", "db", "migrate"], env)
        time_process([sys.executable, "-m", "mlflow", "db", "upgrade", place.tracking_uri], env)
        yield place
    finally:
        shutil.rmtree(home, ignore_errors=True)
