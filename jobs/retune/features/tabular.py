"""Tabular features: numbers as they are, booleans as 0 and 1, text as categories.

All steps are Spark's own, so that the fitted pipeline is part of the model and scores raw rows anywhere. Missing
numbers stay NaN, which gradient-boosted trees split on; missing and unseen categories share one category of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import SQLTransformer, StringIndexer, StringIndexerModel, VectorAssembler
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from retune.errors import BadInput
from retune.features.base import FEATURES, Feature
from retune.features_section import TabularFeatures
from retune.spark import quote

log = logging.getLogger(__name__)
Kind = Literal["number", "category"]


@dataclass(frozen=True)
class Column:
    """A raw column that becomes one feature."""

    name: str
    kind: Kind
    cast: str


class FittedColumns:
    """Columns, one slot each; see `FittedFeatures`."""

    def __init__(
        self, columns: list[Column], left_out: dict[str, str], pipeline: PipelineModel, types: dict[str, str]
    ) -> None:
        indexers = [stage for stage in pipeline.stages if isinstance(stage, StringIndexerModel)]
        labels = iter([list(each) for indexer in indexers for each in indexer.labelsArray])
        self.features = [
            Feature(c.name, c.kind, types[c.name], next(labels) if c.kind == "category" else []) for c in columns
        ]
        self.left_out = left_out
        self.pipeline: PipelineModel | None = pipeline
        self.transform = pipeline.transform


def prepare(rows: DataFrame, section: TabularFeatures, tables: Mapping[str, DataFrame]) -> DataFrame:  # noqa: ARG001
    """Return the rows: they have all that features are made of; see `FeaturePipeline`."""
    return rows


def fit(train: DataFrame, section: TabularFeatures, not_features: list[str]) -> FittedColumns:
    """Choose columns and fit the pipeline; see `FeaturePipeline`."""
    columns, left_out = choose_columns(train.schema, section, not_features)
    columns, identifiers = drop_identifiers(train, columns, section.max_categories)
    types = {field.name: field.dataType.simpleString() for field in train.schema}
    return FittedColumns(columns, left_out | identifiers, fit_features(train, columns), types)


def choose_columns(
    schema: T.StructType, features: TabularFeatures, not_features: list[str]
) -> tuple[list[Column], dict[str, str]]:
    """Choose the columns that become features.

    Args:
        schema: Of the raw rows.
        features: What the experiment lists, drops or casts.
        not_features: The target and the columns that retune added.

    Returns:
        The columns in the order of the schema, and why each other one was left out.

    Raises:
        BadInput: A listed column cannot be a feature, one cannot be cast, or none is left.
    """
    chosen: list[Column] = []
    left_out: dict[str, str] = {}
    for field in schema.fields:
        name = field.name
        if name in not_features:
            continue
        if name in features.drop or (features.columns is not None and name not in features.columns):
            left_out[name] = "as the experiment says"
            continue
        given, wanted = field.dataType.simpleString(), features.cast.get(name)
        if wanted in ("double", "boolean") and _kind(given) is None and given != "timestamp":
            raise BadInput(f"features.cast.{name} = {wanted!r}: a column of {given} can only be read as a string")
        kind = _kind(wanted or given)
        if kind is None:
            reason = f"is {given}, neither number, text nor boolean; cast it in features.cast"
            if features.columns is not None:
                raise BadInput(f"features.columns: {name} {reason}")
            left_out[name] = reason
            continue
        chosen.append(Column(name, kind, wanted or ("double" if kind == "number" else "string")))
    if not chosen:
        raise BadInput(f"features: no column of the data can be a feature ({left_out})")
    return chosen, left_out


def drop_identifiers(rows: DataFrame, columns: list[Column], most: int) -> tuple[list[Column], dict[str, str]]:
    """Leave out categories that tell nothing: with no value in `rows`, or with about more than `most` distinct ones."""
    categories = [column for column in columns if column.kind == "category"]
    if not categories:
        return columns, {}
    counts = rows.agg(*[F.approx_count_distinct(quote(c.name)).alias(str(i)) for i, c in enumerate(categories)]).first()
    assert counts is not None
    left_out = {
        column.name: f"has about {counts[str(i)]} distinct values, more than features.max_categories = {most}"
        if counts[str(i)]
        else "has no value in the train rows"
        for i, column in enumerate(categories)
        if not 0 < counts[str(i)] <= most
    }
    kept = [column for column in columns if column.name not in left_out]
    if not kept:
        raise BadInput(f"features: no column of the data can be a feature ({left_out})")
    return kept, left_out


def fit_features(train: DataFrame, columns: list[Column]) -> PipelineModel:
    """Fit the feature pipeline on train rows.

    Args:
        train: Raw rows.
        columns: What becomes a feature.

    Returns:
        A model that adds `retune_features` (vector, one slot a column, categories marked as nominal) to raw rows.
    """
    names = {column: f"retune_feature_{index}" for index, column in enumerate(columns)}
    statement = ", ".join(_expression(column) + f" AS {name}" for column, name in names.items())
    stages: list[SQLTransformer | StringIndexer | VectorAssembler] = [
        SQLTransformer(statement=f"SELECT *, {statement} FROM __THIS__")
    ]
    categories = [name for column, name in names.items() if column.kind == "category"]
    if categories:
        stages.append(
            StringIndexer(
                inputCols=categories,
                outputCols=[f"{name}_index" for name in categories],
                handleInvalid="keep",
                stringOrderType="alphabetAsc",
            )
        )
    slots = [f"{name}_index" if name in categories else name for name in names.values()]
    stages.append(VectorAssembler(inputCols=slots, outputCol=FEATURES, handleInvalid="keep"))
    return Pipeline(stages=stages).fit(train)


def _kind(kind: str) -> Kind | None:
    if kind.startswith(("string", "varchar", "char")):
        return "category"
    if kind in ("boolean", "tinyint", "smallint", "int", "bigint", "float", "double") or kind.startswith("decimal"):
        return "number"
    return None


def _expression(column: Column) -> str:
    value = f"CAST({quote(column.name)} AS {column.cast})"
    return f"coalesce(CAST({value} AS double), double('NaN'))" if column.kind == "number" else value
