"""What the stages ask of a placement."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from pyspark.sql import SparkSession

from retune.handoff import Stage
from retune.search.plan import Result
from retune.search.trial import Objective
from retune.space import Parameters


@dataclass(frozen=True)
class Trials:
    """What a search needs of the place where its trials run.

    Attributes:
        objective: Tries one setting; several threads may call it at once.
        parallel: How many trials run side by side.
        sizes: Numbers of rows and the like, to log.
        prepare: Is called before each trial, in its thread; its time is not the trial's.
        search: Does the whole search in a way of its own, where the experiment wants such a runner.
    """

    objective: Objective
    parallel: int
    sizes: dict[str, float]
    prepare: Callable[[], None] = lambda: None
    search: Callable[[], Result] | None = None


class Fitting(Protocol):
    """Fits models to train + validation, and keeps them.

    Attributes:
        rows: To how many.
    """

    rows: int

    def fit(self, parameters: Parameters) -> Any:
        """Return a model."""
        ...

    def importances(self, model: Any) -> dict[str, float]:
        """Return what each slot of the vector gains a model, by name, adding up to 1; nothing if it cannot tell."""
        ...

    def save(self, model: Any, name: str) -> str:
        """Keep a whole model for evaluate; return a URI that `retune.placements.models.load_model` knows."""
        ...

    def log(self, model: Any, run_id: str) -> str:
        """Log a whole model into a run, with all that is needed to use it elsewhere; return its URI in MLflow."""
        ...


class Placement(Protocol):
    """A way to run trials; its two members open what the stages tune and retrain work with, and close it."""

    def trials(self, spark: SparkSession, stage: Stage) -> AbstractContextManager[Trials]:
        """Make ready for trials: rows held where they are fitted, and everything that is done only once."""
        ...

    def fitting(self, spark: SparkSession, stage: Stage) -> AbstractContextManager[Fitting]:
        """Make ready for the fits of retrain."""
        ...
