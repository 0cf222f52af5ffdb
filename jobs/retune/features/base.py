"""What featurize asks of a pipeline of features, and how features are told of to the stages after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame

FEATURES = "retune_features"
BAG = "map<string,double>"  # a bag's type as a column


@dataclass(frozen=True)
class Feature:
    """A raw column and the slots that it has in the vector.

    Attributes:
        name: The column's.
        kind: A number has one slot, its own; a category one, the index of its value (`len(values)` for missing and
            unseen ones); a bag one for each name.
        type: Spark's, of the raw column.
        values: What train rows have: a category's values as text, by index; a bag's names, in the order of their slots.
    """

    name: str
    kind: Literal["number", "category", "bag"]
    type: str
    values: list[str] = field(default_factory=list)

    @property
    def slots(self) -> list[str]:
        """Names of its slots, for people: `age`, or `app:123` of a bag."""
        return [f"{self.name}:{value}" for value in self.values] if self.kind == "bag" else [self.name]


class FittedFeatures(Protocol):
    """Features as train rows say.

    Attributes:
        features: In the order of their slots.
        left_out: Why each other column is no feature.
        pipeline: The same as Spark's own stages, for the whole models of cluster trainers; None if there is no such.
    """

    features: list[Feature]
    left_out: dict[str, str]
    pipeline: PipelineModel | None

    def transform(self, rows: DataFrame) -> DataFrame:
        """Add `retune_features` (vector) to prepared rows."""
        ...


class FeaturePipeline(Protocol):
    """A way to make features: a module, named as in the experiment file."""

    def prepare(self, rows: DataFrame, section: Any, tables: Mapping[str, DataFrame]) -> DataFrame:
        """Add the raw columns that are not there yet: what the whole model will be given, and features are made of.

        Args:
            rows: What ingest published, with retune's own columns.
            section: `features` of the experiment.
            tables: The others that the section needs, by name.

        Returns:
            The same rows, with all of their columns.

        Raises:
            BadInput: The tables do not go together.
        """
        ...

    def fit(self, train: DataFrame, section: Any, not_features: list[str]) -> FittedFeatures:
        """Fit to prepared train rows.

        Args:
            train: The rows.
            section: `features` of the experiment.
            not_features: The target and the columns that retune added.

        Raises:
            BadInput: Nothing can be a feature, or not as the section wants it.
        """
        ...
