"""Real jobs by real spark-submit."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flights import write_flights
from mlflow.tracking import MlflowClient

ROOT = Path(__file__).parents[2]


@dataclass
class Jobs:
    """Runs jobs against a state folder of their own."""

    home: Path
    runs: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        drop = {"MLFLOW_TRACKING_URI", "RETUNE_WORKSPACE"}
        kept = {name: value for name, value in os.environ.items() if name not in drop}
        return {**kept, "RETUNE_HOME": str(self.home), **self.settings}

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.settings.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.home}/mlflow.db"))

    def start(self, stage: str, *args: str) -> subprocess.Popen[str]:
        return self.start_script(ROOT / "jobs" / f"{stage}.py", *args)

    def start_script(self, script: Path, *args: str) -> subprocess.Popen[str]:
        command = ["spark-submit", "--master", "local[2]", str(script), *args]
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

    def run_all(self, experiment: Path) -> Jobs:
        """Run all five jobs, one after the other."""
        upstream = ["--experiment", str(experiment)]
        for stage in ("ingest", "featurize", "tune", "retrain", "evaluate"):
            self.run(stage, *upstream)
            upstream = ["--upstream-run-id", self.runs[stage]]
        return self

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
    experiment = write_flights(folder)
    logged = "search:\n  log_models: all\n  autolog: true\n"
    experiment.write_text(experiment.read_text().replace("search:\n", logged))
    jobs.run("ingest", "--experiment", str(experiment))
    jobs.run("featurize", "--upstream-run-id", jobs.runs["ingest"])
    test_rows = Path(jobs.output("featurize", "test").removeprefix("file://"))
    hidden = test_rows.rename(folder / "hidden")
    jobs.run("tune", "--upstream-run-id", jobs.runs["featurize"])
    jobs.run("retrain", "--upstream-run-id", jobs.runs["tune"])
    hidden.rename(test_rows)
    jobs.run("evaluate", "--upstream-run-id", jobs.runs["retrain"])
    return jobs
