"""What retune asks of a model family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pyspark.sql import SparkSession

from retune.errors import BadInput
from retune.experiment import Experiment
from retune.metrics import Problem
from retune.trainers._parameters import (
    Given,
    Range,
    as_written,
    broken_range,
    broken_rule,
    did_you_mean,
    given_parameters,
)

PREDICTION = "retune_prediction"
PROBABILITY = "retune_probability"
MODEL_CODE = Path(__file__).parent / "model_code"


class Trainer(ABC):
    """The adapter of one model family: a `ClusterTrainer` or a `TaskTrainer`.

    Attributes:
        name: As the experiment file spells it.
        placement: Where it fits: on the whole cluster, or within one Spark task.
        problems: The kinds of problem it can fit.
        requirements: The Python packages that its models need to be loaded, without versions.
        rounds_parameter: The parameter that says how many rounds a fit has, where it can stop early.
        mlflow_flavor: MLflow's module that autologs its fits.
        model_code: Folders of Python code that travel with its models.
        reports: Whether a fit tells after each round how far it is.
        takes_infinity: Whether features may be infinite.
    """

    name: str
    placement: Literal["cluster", "task"]
    problems: tuple[Problem, ...] = get_args(Problem)
    requirements: tuple[str, ...]
    rounds_parameter: str | None = None
    mlflow_flavor: str
    model_code: tuple[Path, ...] = ()
    reports: bool = False
    takes_infinity: bool = True

    @abstractmethod
    def defaults(self, problem: Problem) -> Mapping[str, object]:
        """Return every parameter a user may set, with its default; None where that has no type to hold to."""

    def ranges(self, problem: Problem) -> Mapping[str, Range]:
        """Return what numbers and names given to parameters must be, as far as that can be told before a fit."""
        return {}

    @abstractmethod
    def require(self, spark: SparkSession) -> None:
        """Check that what the trainer needs of the session is there.

        Raises:
            BadInput: It is not; the message has the way out.
        """

    def importances(self, model: Any) -> Sequence[float] | None:
        """Return how much each slot of the vector counts in a model of this trainer's, by gain where there is such.

        None where the family cannot tell, or sees other slots than those of the vector.
        """
        return None

    def require_installed(self) -> None:  # noqa: B027 - most need no such packages
        """Check that the packages which set-up brings on request only are here.

        Raises:
            BadInput: They are not; the message has the way out.
        """

    def check(self, experiment: Experiment) -> None:
        """Check every parameter the experiment can give to a fit, as `check_given` does, before any session starts.

        Raises:
            BadInput: Naming the field, the value and the rule.
        """
        self.check_search(experiment)
        self.check_given(given_parameters(experiment), experiment.problem)

    def check_given(self, given: Sequence[Given], problem: Problem) -> None:
        """Check parameters by name, type and range.

        Raises:
            BadInput: Naming the field, the value and the rule.
        """
        self.check_values(given, self.defaults(problem), self.ranges(problem))

    def check_values(self, given: Sequence[Given], known: Mapping[str, object], ranges: Mapping[str, Range]) -> None:
        """Check parameters by those there are, with their defaults and ranges; see `check_given`."""
        for section, name, value in given:
            if name not in known:
                raise BadInput(f"{section}.{name}: {self.name} has no such parameter; {did_you_mean(name, known)}")
            rule = broken_rule(value, known[name])
            if rule is None and name in ranges and value is not None:
                rule = broken_range(value, ranges[name])
            if rule:
                raise BadInput(f"{section}.{name} = {as_written(value)}: {rule}")

    def check_search(self, experiment: Experiment) -> None:
        """Check that the family can do what the search wants: run there, stop early.

        Raises:
            BadInput: It cannot.
        """
        search, rounds = experiment.search, experiment.search.early_stopping_rounds
        if experiment.problem not in self.problems:
            raise BadInput(f"problem = {experiment.problem!r}: {self.name} is for {' and '.join(self.problems)} only")
        where = {"cluster": "is fitted by the whole cluster", "task": "is fitted on one machine, within one Spark task"}
        other = {"cluster": "a task trainer, such as lightgbm", "task": "a cluster trainer, such as spark_gbt"}
        if search.placement not in (None, self.placement):
            raise BadInput(
                f"search.placement = {search.placement!r}: {self.name} {where[self.placement]}; leave placement out, "
                f"or use {other[self.placement]}"
            )
        if self.placement == "cluster" and experiment.features.pipeline == "talkingdata":
            raise BadInput(
                f"features.pipeline = 'talkingdata': {self.name} {where['cluster']}, and Spark has no stage that makes "
                "vectors of bags for its model; use a task trainer, such as xgboost"
            )
        if search.runner == "spark_trials" and self.placement != "task":
            raise BadInput(
                f"search.runner = 'spark_trials': {self.name} {where[self.placement]}, not in its tasks; leave runner "
                f"out, or use {other[self.placement]}"
            )
        side_by_side = search.parallel_trials not in (None, 1)
        if search.autolog and side_by_side and self.placement == "cluster":
            raise BadInput("search.autolog = true: MLflow loses fits of one driver that run side by side; "
                           f"parallel_trials is {search.parallel_trials}, use 1")  # fmt: skip
        if rounds and self.rounds_parameter is None:
            raise BadInput(f"search.early_stopping_rounds = {rounds}: {self.name} cannot stop early; leave it out")
