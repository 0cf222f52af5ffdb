"""What retune asks of a model family that fits on one machine."""

from __future__ import annotations

import pickle
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from pyspark.sql import SparkSession
from threadpoolctl import get_cached_controller

from retune.data.table import Table
from retune.metrics import Problem
from retune.space import Parameters
from retune.trainers.base import Trainer

Report: TypeAlias = Callable[[int, Mapping[str, float]], None]
"""Is told after each round of a fit: how many rounds are done, and what was measured, such as `train_loss`."""


class FirstRounds:
    """The first rounds of a boosted model, as far as scoring goes.

    Args:
        model: With scikit-learn's interface.
        chosen: How its `predict` and `predict_proba` are told which rounds.
    """

    def __init__(self, model: Any, **chosen: Any) -> None:
        self._model, self._chosen = model, chosen

    @property
    def classes_(self) -> Any:
        """The labels of the columns of `predict_proba`."""
        return self._model.classes_

    def predict(self, features: Any) -> Any:
        """Return what the model predicts."""
        return self._model.predict(features, **self._chosen)

    def predict_proba(self, features: Any) -> Any:
        """Return the classes' probabilities."""
        return self._model.predict_proba(features, **self._chosen)


class TaskTrainer(Trainer):
    """A family of single-machine models with scikit-learn's interface, each fitted within one Spark task."""

    placement = "task"

    @abstractmethod
    def estimator(self, parameters: Parameters, problem: Problem, seed: int, threads: int) -> Any:
        """Return an estimator to be fitted.

        Args:
            parameters: What the model is fitted with.
            problem: What kind of model.
            seed: Makes the fit repeatable, unless the parameters have a seed of their own.
            threads: How many the fit may use.
        """

    def fit(
        self,
        table: Table,
        parameters: Parameters,
        problem: Problem,
        seed: int,
        threads: int,
        watched: Table | None = None,
        patience: int | None = None,
        report: Report | None = None,
    ) -> Any:
        """Fit one model.

        Args:
            table: The rows; labels are numbers, or what the data call the classes.
            parameters: What the model is fitted with.
            problem: What kind of model.
            seed: Makes the fit repeatable.
            threads: How many the fit may use.
            watched: Rows of the same kind that early stopping looks at, and reports are about.
            patience: So many rounds without gain on them end the fit.
            report: Is told of each round, by a trainer that `reports`.

        Returns:
            An estimator with `predict` and, where the family has probabilities, `predict_proba`.
        """
        estimator = self.estimator(parameters, problem, seed, threads)
        # Some estimators ask nobody how many threads they may use, and take those of the whole machine.
        with get_cached_controller().limit(limits=threads):
            return self._fit(estimator, table, watched, patience, report)

    def _fit(
        self, estimator: Any, table: Table, watched: Table | None, patience: int | None, report: Report | None
    ) -> Any:
        return estimator.fit(table.features, table.labels)

    def load_library(self, threads: int) -> None:
        """Import what a fit needs and importing the trainer did not, before the first fit of a process.

        Args:
            threads: How many each fit may use.
        """

    def rounds(self, model: Any) -> int:
        """Return how many rounds of a fit with early stopping were worth it: all, if it did not stop."""
        raise NotImplementedError(f"{self.name} has no rounds")

    def can_cut(self, parameters: Parameters) -> bool:
        """Tell whether the first n rounds of a fit are the very model that a fit to n rounds is."""
        return False

    def cut(self, model: Any, rounds: int) -> FirstRounds:
        """Return what predicts by the first `rounds` of a model; only where `can_cut` says so."""
        raise NotImplementedError(f"models of {self.name} cannot be cut")

    def importances(self, model: Any) -> Sequence[float] | None:
        """Return the estimator's own `feature_importances_`, if it has some; see `Trainer`."""
        return getattr(unwrap(model), "feature_importances_", None)

    def model_size(self, model: Any) -> int:
        """Return the bytes of the pickled model."""
        return len(pickle.dumps(model))

    def require(self, spark: SparkSession) -> None:
        """Nothing but Python packages is needed; see `Trainer`."""


def unwrap(model: Any) -> Any:
    """Return the estimator within a vote of one, which is how a classifier learns what the data call the classes."""
    voters = getattr(model, "estimators_", [])
    return voters[0] if type(model).__name__ == "VotingClassifier" and len(voters) == 1 else model
