"""MLflow's own autologging of a trial's fits, for who wants it: slow, and apart from what retune keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import mlflow

from retune import settings
from retune.handoff import Stage
from retune.run_tree import AUTOLOG, DAG_RUN, STAGE
from retune.trainers import load_trainer


@dataclass(frozen=True)
class Autolog:
    """Autologs fits into runs of their own below the trial's, whose names and status are the search's alone.

    Attributes:
        uri: Of the tracking server.
        flavor: MLflow's module that does it.
        experiment_id: MLflow's.
        dag_run: The pipeline run's tag.
    """

    uri: str
    flavor: str
    experiment_id: str
    dag_run: str

    @contextmanager
    def around_fit(self, trial_run_id: str) -> Iterator[None]:
        """Autolog what is fitted meanwhile, in this process; its models are the business of `log_models`."""
        mlflow.set_tracking_uri(self.uri)  # a Python worker does not know it
        import_module(f"mlflow.{self.flavor}").autolog(log_models=False, silent=True)
        with mlflow.start_run(
            experiment_id=self.experiment_id,
            run_name="autolog",
            parent_run_id=trial_run_id,
            tags={STAGE: AUTOLOG, DAG_RUN: self.dag_run},
            log_system_metrics=False,
        ):
            yield


def autolog_of(stage: Stage) -> Autolog | None:
    """Return what autologs the fits of a tune stage, if the experiment wants that."""
    if not stage.experiment.search.autolog:
        return None
    flavor = load_trainer(stage.experiment.model.trainer).mlflow_flavor
    return Autolog(settings.tracking_uri(), flavor, stage.experiment_id, stage.run.data.tags[DAG_RUN])
