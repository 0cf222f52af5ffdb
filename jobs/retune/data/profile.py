"""What is known of the data after one look: counts, schema, fingerprint, classes; and whether it can be learnt from."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from typing import Any, TypedDict

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql import types as T

from retune.errors import BadInput
from retune.experiment import Experiment
from retune.metrics import Problem
from retune.search_section import CrossValidation
from retune.spark import hash_of_rows, quote

RESERVED = "retune_"
_MOST_CLASSES = 100  # SynapseML's own bound, maxNumClasses


class Profile(TypedDict):
    """The artifact `profile.json` of an ingest run.

    rows: Rows with a target. rows_without_target: Rows left out. schema: Column name → Spark type. fingerprint: Hex
    digest of names, types and all values, whatever the order of rows. classes: The target's values in label order;
    empty for regression.
    """

    rows: int
    rows_without_target: int
    schema: dict[str, str]
    fingerprint: str
    classes: list[Any]


def check_columns(rows: DataFrame, experiment: Experiment) -> None:
    """Check that the columns the experiment names are there, and no name is one that retune itself needs.

    Raises:
        BadInput: Naming the field and the column.
    """
    names = rows.columns
    validation = experiment.search.validation
    group = validation.group if isinstance(validation, CrossValidation) else None
    named = {
        "data.target": [experiment.data.target],
        "split.key": experiment.split.key,
        **{f"features.{field}": columns for field, columns in experiment.features.named_columns.items()},
        "search.validation.group": [group] if group else [],
    }
    for field, wanted in named.items():
        for name in wanted:
            if name not in names:
                raise BadInput(f"{field} = {name!r}: no such column in the data; it has {', '.join(names)}")
    spellings = Counter(name.lower() for name in names)
    for name, kind in rows.dtypes:
        if name.lower().startswith(RESERVED) or name.lower() == "prediction":
            raise BadInput(
                f"column {name!r}: the names prediction and {RESERVED}* are retune's own; rename it in the data"
            )
        if spellings[name.lower()] > 1:
            raise BadInput(
                f"column {name!r}: another differs from it only in case, which Spark cannot tell apart; rename one"
            )
        if "map<" in kind:
            raise BadInput(f"column {name!r}: is {kind}, and Spark cannot compare maps; leave it out of the data")


def prepare_target(rows: DataFrame, experiment: Experiment) -> DataFrame:
    """Drop rows without a target and give it the problem's type: double, or one that names classes exactly.

    Raises:
        BadInput: A regression target that is no number, or a classification target that is no text, integer or
            boolean.
    """
    target = experiment.data.target
    kind = rows.schema[target].dataType
    column = F.col(quote(target))
    present = column.isNotNull() & (~F.isnan(column) if isinstance(kind, T.DoubleType) else F.lit(True))
    rows = rows.where(present)
    if experiment.problem == "regression":
        if isinstance(kind, T.NumericType):
            return rows.withColumn(target, column.cast("double"))
        if rows.isEmpty():
            return rows  # a column without values has no type to speak of
        raise BadInput(f"data.target = {target!r}: regression needs a number, but the column is {kind.simpleString()}")
    if isinstance(kind, T.DoubleType):
        if rows.where(column != F.floor(column)).limit(1).count():
            raise BadInput(
                f"data.target = {target!r}: has fractions, which name no classes; use problem: regression, or labels"
            )
        return rows.withColumn(target, column.cast("bigint"))
    if not isinstance(kind, (T.StringType, T.LongType, T.BooleanType)) and not rows.isEmpty():
        raise BadInput(f"data.target = {target!r}: a column of {kind.simpleString()} names no classes")
    return rows


def profile_rows(rows: DataFrame, rows_without_target: int, experiment: Experiment) -> Profile:
    """Look at all rows once (twice for classes) and refuse what nothing can be learnt from.

    Raises:
        BadInput: No row, a constant or infinite target, one class only, or too many classes for the problem.
    """
    target = quote(experiment.data.target)
    seen = rows.agg(*_content(rows), F.min(target).alias("least"), F.max(target).alias("greatest")).first()
    assert seen is not None
    if seen["rows"] == 0:
        missing = f" (all {rows_without_target} rows lack the target)" if rows_without_target else ""
        raise BadInput(f"data: no rows to learn from{missing}")
    if {math.inf, -math.inf} & {seen["least"], seen["greatest"]}:
        raise BadInput(
            f"data.target = {experiment.data.target!r}: has infinite values, which nothing can predict; remove them"
        )
    if seen["least"] == seen["greatest"]:
        what = "a constant" if experiment.problem == "regression" else "one class only"
        raise BadInput(
            f"data.target = {experiment.data.target!r}: is {what}, {seen['least']!r}; there is nothing to learn"
        )
    classes = [] if experiment.problem == "regression" else _classes(rows, experiment.data.target, experiment.problem)
    return Profile(
        rows=seen["rows"],
        rows_without_target=rows_without_target,
        schema=_schema_of(rows),
        fingerprint=_fingerprint(rows, seen),
        classes=classes,
    )


def fingerprint_tables(first: str, others: dict[str, DataFrame]) -> str:
    """Return the fingerprint of the rows' table, `first`, and of further tables by name, as one."""
    if not others:
        return first
    digests = [first]
    for name, rows in sorted(others.items()):
        seen = rows.agg(*_content(rows)).first()
        assert seen is not None
        digests += [name, _fingerprint(rows, seen)]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:32]


def _content(rows: DataFrame) -> list[Column]:
    """Return what tells one content from another, whatever the order of rows."""
    row_hash = F.expr(hash_of_rows(rows.columns)).cast("decimal(20,0)")
    return [
        F.count("*").alias("rows"),
        F.sum(row_hash).cast("string").alias("sum"),
        F.bit_xor(row_hash.cast("bigint")).alias("xor"),
    ]


def _fingerprint(rows: DataFrame, seen: Row) -> str:
    content = json.dumps([sorted(_schema_of(rows).items()), seen["rows"], seen["sum"], seen["xor"]])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _schema_of(rows: DataFrame) -> dict[str, str]:
    return {field.name: field.dataType.simpleString() for field in rows.schema.fields}


def _classes(rows: DataFrame, target: str, problem: Problem) -> list[Any]:
    most = 2 if problem == "binary" else _MOST_CLASSES
    found = rows.select(F.col(quote(target)).alias("value")).distinct().orderBy("value").limit(most + 1).collect()
    if len(found) > most:
        first = ", ".join(repr(row.value) for row in found[:3])
        way_out = "use problem: multiclass" if problem == "binary" else "is it a class at all?"
        raise BadInput(f"data.target = {target!r}: has more than {most} classes ({first}, …); {way_out}")
    return [row.value for row in found]
