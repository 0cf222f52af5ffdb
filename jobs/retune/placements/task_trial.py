"""What one Spark task does for a trial: fit on one machine, score, and tell; nothing here needs a session."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retune.data.table import Table, TableFiles
from retune.experiment import Experiment
from retune.functions import load_function
from retune.metrics import METRICS
from retune.placements.objective import (
    ROUNDS,
    SIZE,
    constrained_measures,
    fold_count,
    read_returned,
    scored_by,
    train_sample,
)
from retune.placements.task_rows import open_shared
from retune.scoring import score_model
from retune.space import Parameters
from retune.trainers import load_trainer
from retune.trainers.base_task import Report, TaskTrainer

if TYPE_CHECKING:
    from retune.placements.autolog import Autolog  # brings MLflow, which a worker without it does not load
    from retune.placements.live import LiveLog  # the same


@dataclass(frozen=True)
class Split:
    """What a function of the user's own is given beside the parameters: rows to fit to, and rows to score on."""

    train: Table
    validation: Table
    classes: int
    threads: int


@dataclass(frozen=True)
class Outcome:
    """How a fold's fit ended in its task: measures, why it failed, and the model where that is to be kept."""

    metrics: dict[str, float]
    error: str | None = None
    model: Any = None


@dataclass(frozen=True)
class TaskTrial:
    """All that the trials of a search have in common; the classes are as the data spell them."""

    experiment: Experiment
    files: TableFiles
    classes: list[Any]
    threads: int
    autolog: Autolog | None = None
    live: LiveLog | None = None


def import_all(trial: TaskTrial) -> None:
    """Import what a trial needs, for whoever comes first to a Python worker waits for it."""
    _task_trainer(trial.experiment).load_library(trial.threads)
    open_shared(trial.files)


def try_fold(trial: TaskTrial, parameters: Parameters, fold: int, run_id: str | None = None) -> Outcome:
    """Fit one setting, leaving out a fold, and score it there; whatever goes wrong in it is an outcome.

    So Spark tries no task again for it.

    Args:
        trial: What all trials have in common.
        parameters: What the model is fitted with.
        fold: From 0; 0 where there are none.
        run_id: The trial's run, where fits are autologged, or tell of their rounds.
    """
    search = trial.experiment.search
    try:
        with ExitStack() as around:
            if trial.autolog and run_id:
                around.enter_context(trial.autolog.around_fit(run_id))
            prefix = f"fold_{fold}_" if fold_count(search) > 1 else ""
            report = around.enter_context(trial.live.of_fit(run_id, prefix)) if trial.live and run_id else None
            metrics, model = _measure(trial, open_shared(trial.files), parameters, fold, report)
        keep = search.log_models == "all"
        return Outcome(metrics, model=spell(model, trial.classes) if keep else None)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return Outcome({}, error=f"{type(error).__name__}: {error}")


def try_rounds(
    trial: TaskTrial, parameters: Parameters, fold: int, rounds: Sequence[int]
) -> dict[int, dict[str, float]] | None:
    """Do what `try_fold` does for settings that differ in the rounds alone, by one fit to the most of them.

    Returns:
        What was measured, by rounds; None where anything went wrong.
    """
    trainer = _task_trainer(trial.experiment)
    try:
        train, validation = open_shared(trial.files).split(fold)
        model, fit_s = _fit(trial, train, {**parameters, str(trainer.rounds_parameter): max(rounds)})
        cuts = {each: trainer.cut(model, each) for each in rounds}
        return {each: {**_score(trial, cut, train, validation), "fit_s": fit_s} for each, cut in cuts.items()}
    except Exception:
        return None  # each setting tells for itself what is wrong with it


def _measure(
    trial: TaskTrial, table: Table, parameters: Parameters, fold: int, report: Report | None
) -> tuple[dict[str, float], Any]:
    train, validation = table.split(fold)
    own = trial.experiment.search.objective
    if own is not None:
        split = Split(train, validation, len(trial.classes), trial.threads)
        function = load_function("search.objective", own)
        return read_returned(function(parameters, split), METRICS[trial.experiment.search.metric]), None
    return fit_and_score(trial, train, validation, parameters, report)


def fit_and_score(
    trial: TaskTrial, train: Table, validation: Table, parameters: Parameters, report: Report | None = None
) -> tuple[dict[str, float], Any]:
    """Return train and validation metrics, how long fit and scoring took, what constraints hang on; and the model."""
    search, trainer = trial.experiment.search, _task_trainer(trial.experiment)
    model, fit_s = _fit(trial, train, parameters, validation, report)
    metrics = {**_score(trial, model, train, validation), "fit_s": fit_s}
    if search.early_stopping_rounds:
        metrics[ROUNDS] = trainer.rounds(model)
    if SIZE in constrained_measures(search):
        metrics[SIZE] = trainer.model_size(model) / 2**20
    return metrics, model


def _fit(
    trial: TaskTrial,
    train: Table,
    parameters: Parameters,
    validation: Table | None = None,
    report: Report | None = None,
) -> tuple[Any, float]:
    """Return a model, and the seconds it took; the fit may stop early where it is given validation rows."""
    experiment, started = trial.experiment, time.monotonic()
    patience = experiment.search.early_stopping_rounds
    model = _task_trainer(experiment).fit(
        train,
        parameters,
        experiment.problem,
        experiment.search.seed,
        trial.threads,
        watched=validation if patience or report else None,
        patience=patience,
        report=report,
    )
    return model, time.monotonic() - started


def _score(trial: TaskTrial, model: Any, train: Table, validation: Table) -> dict[str, float]:
    """Return train and validation metrics, and how long scoring took."""
    experiment, started = trial.experiment, time.monotonic()
    metrics: dict[str, float] = {}
    sample = train.first(train_sample(len(validation.labels)))  # rows are in the order of a hash
    for name, table in (("train", sample), ("validation", validation)):
        scores = score_model(
            model, table.features, table.labels, experiment.problem, len(trial.classes), scored_by(experiment.search)
        )
        metrics |= {f"{name}_{metric}": value for metric, value in scores.items()}
    rows = len(sample.labels) + len(validation.labels)
    return {**metrics, "score_ms_per_row": (time.monotonic() - started) * 1000 / rows}


def spell(model: Any, classes: list[Any]) -> Any:
    """Return a classifier of the labels 0, 1, … as one of the classes as the data spell them: a vote of one."""
    import numpy as np
    from sklearn.ensemble import VotingClassifier
    from sklearn.preprocessing import LabelEncoder

    if not classes:
        return model
    vote = VotingClassifier([("model", model)], voting="soft" if hasattr(model, "predict_proba") else "hard")
    names = np.asarray(classes)[np.asarray(model.classes_, dtype=int)]
    vote.le_ = LabelEncoder()
    vote.estimators_, vote.classes_, vote.le_.classes_ = [model], names, names
    return vote


def fit_whole(trial: TaskTrial, parameters: Parameters) -> Any:
    """Fit one model to all rows, with the classes as the data spell them."""
    import numpy as np

    experiment, table = trial.experiment, open_shared(trial.files)
    labels = np.asarray(trial.classes)[table.labels.astype(int)] if trial.classes else table.labels
    rows = Table(table.features, labels, table.parts, table.categories)
    trainer = _task_trainer(experiment)
    return trainer.fit(rows, parameters, experiment.problem, experiment.search.seed, trial.threads)


def _task_trainer(experiment: Experiment) -> TaskTrainer:
    trainer = load_trainer(experiment.model.trainer)
    assert isinstance(trainer, TaskTrainer)
    return trainer
