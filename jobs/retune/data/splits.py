"""Train, validation and test, chosen by a seeded hash of each row: no row moves when the partitioning does."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from retune.errors import BadInput
from retune.experiment import Split
from retune.spark import hash_of_rows, quote

SPLITS = ("train", "validation", "test")
SPLIT = "retune_split"
ROW_ID = "retune_row_id"
LABEL = "retune_label"
_BUCKETS = 1_000_000
_FEWEST_ROWS = 10


def assign_splits(rows: DataFrame, split: Split) -> DataFrame:
    """Add `retune_split` (train, validation or test) and `retune_row_id` (bigint, a hash of all columns).

    Equal rows, and rows of equal key, always fall on the same side.
    """
    names = rows.columns
    bucket = F.expr(f"pmod({hash_of_rows(split.key or names, split.seed)}, {_BUCKETS})") / _BUCKETS
    return rows.withColumn(ROW_ID, F.expr(hash_of_rows(names))).withColumn(
        SPLIT,
        F.when(bucket < split.test, "test")
        .when(bucket < split.test + split.validation, "validation")
        .otherwise("train"),
    )


def add_label(rows: DataFrame, target: str, classes: list[object]) -> DataFrame:
    """Add `retune_label` (double): the target itself, or for classes its index in `classes`."""
    if not classes:
        return rows.withColumn(LABEL, F.col(quote(target)).cast("double"))
    known = F.array(*[F.lit(value) for value in classes])
    position = F.call_function("array_position", known, F.col(quote(target)))
    return rows.withColumn(LABEL, (position - 1).cast("double"))


def check_splits(rows: DataFrame, classes: list[object]) -> dict[str, int]:
    """Count the rows of each split and refuse splits that are too small to mean anything.

    Returns:
        Rows by split.

    Raises:
        BadInput: A split has fewer than 10 rows, a constant target, or lacks a class.
    """
    counted = (
        rows.groupBy(SPLIT).agg(F.count("*").alias("rows"), F.collect_set(LABEL).alias("labels"))
        if classes
        else (rows.groupBy(SPLIT).agg(F.count("*").alias("rows"), F.array(F.min(LABEL), F.max(LABEL)).alias("labels")))
    )
    found = {row[SPLIT]: (row["rows"], set(row["labels"])) for row in counted.collect()}
    for name in SPLITS:
        count, labels = found.get(name, (0, set()))
        if count < _FEWEST_ROWS:
            raise BadInput(
                f"split: {name} would have {count} rows, but needs {_FEWEST_ROWS} at least; "
                f"give more data or another fraction (or another split.key)"
            )
        missing = [value for index, value in enumerate(classes) if float(index) not in labels]
        if missing:
            raise BadInput(
                f"split: {name} would have no row of class {missing[0]!r}; "
                "give more rows of it, leave it out of the data, or choose another fraction or split.seed"
            )
        if len(labels) < 2:
            raise BadInput(
                f"split: all {count} rows of {name} have the same target; give more data or another split.seed"
            )
    return {name: found[name][0] for name in SPLITS}
