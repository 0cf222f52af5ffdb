"""Folds for cross-validation: chosen by hashes of rows, so that no row moves when the partitioning does."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from retune.data.splits import LABEL, ROW_ID
from retune.errors import BadInput
from retune.search_section import CrossValidation
from retune.spark import quote

FOLD = "retune_fold"
_GROUP = "retune_group"


def assign_folds(rows: DataFrame, validation: CrossValidation, classes: int, seed: int) -> DataFrame:
    """Add `retune_fold` (int, from 0).

    Equal rows share a fold, and rows of equal group do. Without a group, each class is spread over all folds alike.

    Args:
        rows: With `retune_row_id`, `retune_label` and the group's column, if there is one.
        validation: How many folds, and the group.
        classes: How many classes; 0 for regression.
        seed: Another seed, other folds.
    """
    key = F.col(quote(validation.group)) if validation.group else F.col(ROW_ID)
    hashed = F.xxhash64(F.lit(seed), F.lit("fold"), key)
    if validation.group:
        # Few groups would leave folds empty if each went by its hash alone; by its rank, all folds have as many.
        groups = rows.select(key.alias(_GROUP)).distinct()
        place = F.row_number().over(Window.orderBy(F.xxhash64(F.lit(seed), F.lit("fold"), _GROUP), _GROUP))
        ranked = F.broadcast(groups.withColumn(FOLD, _fold(place, validation)))
        return rows.join(ranked, key.eqNullSafe(F.col(_GROUP))).drop(_GROUP)
    place = F.dense_rank().over(Window.partitionBy(LABEL).orderBy(hashed)) if classes else hashed
    return rows.withColumn(FOLD, _fold(place, validation))


def _fold(place: Column, validation: CrossValidation) -> Column:
    return F.pmod(place, F.lit(validation.folds)).cast("int")


def check_folds(rows: DataFrame, validation: CrossValidation, classes: list[object], seed: int) -> None:
    """Refuse folds that the rows cannot fill.

    Raises:
        BadInput: There are more folds than rows, groups, or rows or groups of a class; or a fold would lack rows, or
            those of a class.
    """
    unit = quote(validation.group) if validation.group else ROW_ID
    counted = rows.groupBy(*[LABEL] if classes else []).agg(F.count_distinct(unit).alias("units"))
    for row in counted.collect():
        if row["units"] < validation.folds:
            what = f"groups of {validation.group}" if validation.group else "different rows"
            of_class = f" with class {classes[int(row[LABEL])]!r}" if classes else ""
            raise BadInput(
                f"search.validation.folds = {validation.folds}: there are only {row['units']} {what}{of_class} in "
                "train and validation together; use fewer folds"
            )
    parts = assign_folds(rows, validation, len(classes), seed).groupBy(FOLD, *[LABEL] if classes else []).count()
    filled, wanted = parts.count(), validation.folds * max(1, len(classes))
    if filled < wanted:
        of_class = " of each class" if classes else ""
        raise BadInput(
            f"search.validation.folds = {validation.folds}: not every fold would have rows{of_class}, but "
            f"{filled} of {wanted} parts; use fewer folds, or another split.seed"
        )
