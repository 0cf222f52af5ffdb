"""Real jobs by real spark-submit, on a table as users have them: text, missing values, a 3-class text target."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

ROOT = Path(__file__).parents[2]
EXPERIMENT = """\
name: flights
description: How late a flight arrives
data: {source: file, path: flights.csv, target: arrival}
problem: multiclass
split: {validation: 0.2, test: 0.2, seed: 1}
features: {drop: [flight no.]}
model:
  trainer: synapseml_lightgbm
  fixed: {minDataInLeaf: 5}
  untuned: {numIterations: 3, numLeaves: 4}
search:
  metric: accuracy
  max_trials: 4
  seed: 3
  space:
    numIterations: {type: quniform, low: 5, high: 25, q: 5}
    numLeaves: {type: uniformint, low: 3, high: 15}
    booster:
      type: choice
      options:
        - {boostingType: gbdt}
        - {boostingType: goss, topRate: {type: uniform, low: 0.1, high: 0.4}}
airflow: {retries: 1, retry_delay: 1s}
"""


def write_flights(folder: Path, rows: int = 600) -> Path:
    """Write `flights.csv` and `flights.yaml`; the arrival follows from distance, carrier and rain, with some noise."""
    rng = np.random.default_rng(0)
    carrier = rng.choice(["Zürich Air", "B. & B.", "O'Hare"], rows)
    distance = rng.uniform(100, 3000, rows)
    rain = rng.random(rows) < 0.4
    delay = distance / 1000 + 2 * (carrier == "B. & B.") + 1.5 * rain + rng.normal(0, 0.3, rows)
    table = pd.DataFrame(
        {
            "flight no.": [f"F{n}" for n in range(rows)],
            "carrier": pd.Series(carrier, dtype=object),
            "dist.km": distance.round(1),
            "rain": rain,
            "stops": rng.integers(0, 3, rows),
            "arrival": pd.cut(delay, [-9, 1.5, 3, 99], labels=["early", "on time", "late"]).astype(object),
        }
    )
    table.loc[::9, "carrier"] = None
    table.loc[::7, "dist.km"] = None
    table.loc[::100, "arrival"] = None
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "flights.csv", index=False)
    (folder / "flights.yaml").write_text(EXPERIMENT)
    return folder / "flights.yaml"


@dataclass
class Jobs:
    """Runs jobs against a state folder of their own."""

    home: Path
    runs: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        drop = {"MLFLOW_TRACKING_URI", "RETUNE_WORKSPACE"}
        kept = {name: value for name, value in os.environ.items() if name not in drop}
        return {**kept, "RETUNE_HOME": str(self.home)}

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.home}/mlflow.db")

    def start(self, stage: str, *args: str) -> subprocess.Popen[str]:
        command = ["spark-submit", "--master", "local[2]", str(ROOT / "jobs" / f"{stage}.py"), *args]
        return subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, stage: str, *args: str) -> str:
        """Run a job to its end and remember its run's id; return what it printed."""
        job = self.start(stage, *args)
        output, _ = job.communicate()
        assert job.returncode == 0, output
        self.runs[stage] = output.rsplit("done: run ", 1)[1].split()[0]
        return output

    def tags(self, stage: str) -> dict[str, str]:
        return dict(self.client.get_run(self.runs[stage]).data.tags)

    def output(self, stage: str, name: str) -> str:
        return self.tags(stage)[f"retune.output.{name}"]

    def artifact(self, stage: str, path: str) -> Any:
        artifacts = self.client.get_run(self.runs[stage]).info.artifact_uri
        return json.loads((Path(artifacts.removeprefix("file://")) / path).read_text())


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """All five stages, one after the other; the test rows are out of reach while tune and retrain run."""
    folder = tmp_path_factory.mktemp("chain")
    jobs = Jobs(folder / "home")
    jobs.run("ingest", "--experiment", str(write_flights(folder)))
    jobs.run("featurize", "--upstream-run-id", jobs.runs["ingest"])
    test_rows = Path(jobs.output("featurize", "test").removeprefix("file://"))
    hidden = test_rows.rename(folder / "hidden")
    jobs.run("tune", "--upstream-run-id", jobs.runs["featurize"])
    jobs.run("retrain", "--upstream-run-id", jobs.runs["tune"])
    hidden.rename(test_rows)
    jobs.run("evaluate", "--upstream-run-id", jobs.runs["retrain"])
    return jobs
