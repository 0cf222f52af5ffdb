"""What retune asks of a model family."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from pyspark.ml import Transformer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from threadpoolctl import threadpool_limits

from retune.data.table import Table
from retune.errors import BadInput
from retune.experiment import Experiment
from retune.metrics import Problem
from retune.space import Parameters
from retune.spark import Slots
from retune.trainers._parameters import Given, broken_rule, did_you_mean, given_parameters

PREDICTION = "retune_prediction"
PROBABILITY = "retune_probability"
WATCHED = "retune_watched"
MODEL_CODE = Path(__file__).parent / "model_code"
Report: TypeAlias = Callable[[int, Mapping[str, float]], None]
"""Is told after each round of a fit: how many rounds are done, and what was measured, such as `train_loss`."""


@dataclass(frozen=True)
class EarlyStopping:
    """When a fit may end before its last round.

    Attributes:
        rows: As those of the fit, but not among them; few enough for one machine.
        rounds: So many without gain on these rows end the fit.
    """

    rows: DataFrame
    rounds: int

    def beside(self, fitted: DataFrame) -> DataFrame:
        """Return the rows of the fit and these, told apart by the column `WATCHED` (boolean)."""
        watched = self.rows.select(*fitted.columns).withColumn(WATCHED, F.lit(True))
        return fitted.withColumn(WATCHED, F.lit(False)).unionByName(watched)


@dataclass(frozen=True)
class FitPlan:
    """How the fits of a search use the machine.

    Attributes:
        parameters: For each fit.
        parallel: How many at once would use it best, as far as the trainer knows.
        reason: For people; empty where there was nothing to choose.
    """

    parameters: Parameters = field(default_factory=dict)
    parallel: int = 1
    reason: str = ""


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


class Trainer(ABC):
    """The adapter of one model family, of either kind below.

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
        """Check every parameter the experiment can give to a fit, by name and type, before any session starts.

        Raises:
            BadInput: Naming the field, the value and the rule.
        """
        self.check_search(experiment)
        self.check_given(given_parameters(experiment), experiment.problem)

    def check_given(self, given: Sequence[Given], problem: Problem) -> None:
        """Check parameters by name and type.

        Raises:
            BadInput: Naming the field, the value and the rule.
        """
        self.check_types(given, self.defaults(problem))

    def check_types(self, given: Sequence[Given], known: Mapping[str, object]) -> None:
        """Check parameters by those there are, with their defaults; see `check_given`."""
        for section, name, value in given:
            if name not in known:
                raise BadInput(f"{section}.{name}: {self.name} has no such parameter; {did_you_mean(name, known)}")
            if rule := broken_rule(value, known[name]):
                raise BadInput(f"{section}.{name} = {value!r}: {rule}")

    def check_search(self, experiment: Experiment) -> None:
        """Check that the family can do what the search wants: run there, stop early.

        Raises:
            BadInput: It cannot.
        """
        search, rounds = experiment.search, experiment.search.early_stopping_rounds
        if experiment.problem not in self.problems:
            raise BadInput(f"problem = {experiment.problem!r}: {self.name} is for {' and '.join(self.problems)} only")
        where = {"cluster": "is fitted by the whole cluster", "task": "is fitted on one machine, within one Spark task"}
        if search.placement not in (None, self.placement):
            raise BadInput(f"search.placement = {search.placement!r}: {self.name} {where[self.placement]}")
        if self.placement == "cluster" and experiment.features.pipeline == "talkingdata":
            raise BadInput(
                f"features.pipeline = 'talkingdata': {self.name} {where['cluster']}, and Spark has no stage that makes "
                "vectors of bags for its model; use a task trainer, such as xgboost"
            )
        if search.runner == "spark_trials" and self.placement != "task":
            raise BadInput(f"search.runner = 'spark_trials': {self.name} {where[self.placement]}, not in its tasks")
        side_by_side = search.parallel_trials not in (None, 1)
        if search.autolog and side_by_side and self.placement == "cluster":
            raise BadInput("search.autolog = true: MLflow loses fits of one driver that run side by side; "
                           f"parallel_trials is {search.parallel_trials}, use 1")  # fmt: skip
        if rounds and self.rounds_parameter is None:
            raise BadInput(f"search.early_stopping_rounds = {rounds}: {self.name} cannot stop early; leave it out")


class ClusterTrainer(Trainer):
    """A family whose fit is itself a distributed Spark job."""

    placement = "cluster"
    mlflow_flavor = "pyspark.ml"

    @abstractmethod
    def fit(
        self,
        rows: DataFrame,
        parameters: Parameters,
        problem: Problem,
        classes: int,
        seed: int,
        early_stopping: EarlyStopping | None = None,
    ) -> Transformer:
        """Fit one model.

        Args:
            rows: Columns `retune_features` (vector) and `retune_label` (double), as `layout` arranged them.
            parameters: What the model is fitted with.
            problem: What kind of model.
            classes: How many classes; 0 for regression.
            seed: Makes the fit repeatable, unless the parameters have a seed of their own.
            early_stopping: When the fit may end early; `rounds` tells how far it came.

        Returns:
            A transformer that adds `retune_prediction` (double; for classes the index) and, for classes,
            `retune_probability` (vector, one slot a class).
        """

    def rounds(self, model: Transformer) -> int:
        """Return how many rounds of a fit with early stopping were worth it: all, if it did not stop.

        Only a trainer with a `rounds_parameter` is asked.
        """
        raise NotImplementedError(f"{self.name} has no rounds")

    def plan(self, values: int, slots: Slots, memory: int, parallel: int) -> FitPlan:
        """Choose how a fit uses the machine; whatever the experiment's own parameters say comes before that.

        Args:
            values: What a fit reads: rows × features.
            slots: The cluster.
            memory: Of an executor, in bytes.
            parallel: How many fits run at once; together they must use no more than there is.
        """
        return FitPlan()

    def safer(self, rung: int) -> Parameters:
        """Return parameters for a further try after trouble in the infrastructure: none at rung 0, then ever safer."""
        return {}

    @abstractmethod
    def model_size(self, model: Transformer) -> int:
        """Return a model's size in bytes, in a form that tells a large model from a small one."""

    def layout(self, rows: DataFrame, slots: Slots) -> DataFrame:
        """Arrange rows for the fit; the default leaves them as they are."""
        return rows


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
        # Some estimators ask nobody how many threads they may use, and take those of the whole machine.
        with threadpool_limits(limits=threads):
            return self._fit(self.estimator(parameters, problem, seed, threads), table, watched, patience, report)

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
