"""`train`: one network, fitted and scored in one MLflow run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import mlflow
import numpy as np
from mlflow.models import infer_signature
from sklearn.pipeline import Pipeline

from retune.errors import BadInput, one_line
from retune.experiment import Experiment
from retune.experiment_file import parse_value
from retune.placements.logged import requirements_of
from retune.placements.objective import ROUNDS
from retune.placements.task_trial import spell
from retune.project.asked import build_parser, log_asked, read_asked
from retune.project.rows import Rows, read_rows
from retune.run_tree import ERROR
from retune.scoring import score_model
from retune.settings import without_password
from retune.tracking import connect
from retune.trainers import load_trainer
from retune.trainers.base_task import TaskTrainer


def run(argv: Sequence[str]) -> None:
    """Fit one network; its run has parameters, the losses of each epoch by MLflow's autologging, metrics and model.

    Args:
        argv: See `build_parser`, and `--<parameter> <value>` for each of the trainer's.

    Raises:
        BadInput: What is asked for is wrong.
    """
    args, rest = build_parser("train", "Fit one network.").parse_known_args(argv)
    experiment, parameters = read_asked(args), parse_parameters(rest)
    trainer = load_trainer(experiment.model.trainer)
    assert isinstance(trainer, TaskTrainer)
    trainer.require_installed()
    trainer.check_given([("train", name, value) for name, value in parameters.items()], experiment.problem)
    connect()
    with mlflow.start_run() as active:
        try:
            log_asked(active.info.run_id, experiment, parameters)
            _train(trainer, experiment, parameters)
        except Exception as error:
            mlflow.set_tag(ERROR, without_password(one_line(error))[:5000])
            raise


def parse_parameters(arguments: Sequence[str]) -> dict[str, Any]:
    """Return `--name value` pairs as parameters; an empty value leaves the trainer's default.

    Raises:
        BadInput: They are no pairs.
    """
    names, values = arguments[::2], arguments[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise BadInput(f"{' '.join(arguments)}: must be --<parameter> <value>, for each of the trainer's")
    return {name[2:]: parse_value(value) for name, value in zip(names, values, strict=True) if value}


def _train(trainer: TaskTrainer, experiment: Experiment, parameters: dict[str, Any]) -> None:
    rows, patience, threads = read_rows(experiment), experiment.search.early_stopping_rounds, os.cpu_count() or 1
    trainer.load_library(threads)
    mlflow.keras.autolog(log_models=False, log_datasets=False)  # the bare network takes no raw rows
    model = trainer.fit(
        rows.train, parameters, experiment.problem, experiment.search.seed, threads, rows.validation, patience
    )
    mlflow.log_metrics(_measure(model, experiment, rows) | ({ROUNDS: trainer.rounds(model)} if patience else {}))
    whole = Pipeline([("features", rows.features), ("model", spell(model, rows.classes))])
    mlflow.sklearn.log_model(
        whole,
        name="model",
        serialization_format="cloudpickle",
        pip_requirements=requirements_of(trainer),
        signature=infer_signature(rows.example, whole.predict(rows.example)),
    )


def _measure(model: Any, experiment: Experiment, rows: Rows) -> dict[str, float]:
    measured: dict[str, float] = {}
    for name, table in (("train", rows.train), ("validation", rows.validation)):
        scores = score_model(model, table.features, table.labels, experiment.problem, len(rows.classes), "auc")
        measured |= {f"{name}_{metric}": value for metric, value in scores.items() if np.isfinite(value)}
    return measured
