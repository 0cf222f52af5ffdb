"""What retune asks of a model family whose fit is a Spark job."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

from pyspark.ml import Transformer
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from retune.metrics import Problem
from retune.space import Parameters
from retune.spark import Slots
from retune.trainers.base import Trainer

WATCHED = "retune_watched"


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
