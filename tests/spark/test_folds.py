"""Folds: which rows share one, what does not move them, and which folds are refused."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from retune.data.folds import FOLD, assign_folds, check_folds
from retune.data.splits import LABEL, ROW_ID
from retune.errors import BadInput
from retune.search_section import CrossValidation


@pytest.fixture(scope="module")
def rows(numbered):
    """1,000 rows with a label of 4 classes (one of them rare) and 50 groups."""
    label = F.when(F.col("id") < 12, 3).otherwise(F.col("id") % 3).cast("double")
    return numbered.select("id", "group", F.xxhash64("id").alias(ROW_ID), label.alias(LABEL)).cache()


def fold_of(rows: DataFrame, validation: CrossValidation, classes: int = 0, seed: int = 1) -> dict[int, int]:
    return {row["id"]: row[FOLD] for row in assign_folds(rows, validation, classes, seed).collect()}


@pytest.mark.parametrize(("classes", "group"), [(0, None), (4, None), (0, "group"), (4, "group")])
def test_folds_are_unmoved_by_partitions_and_order_and_moved_by_the_seed(rows, classes, group):
    validation = CrossValidation(folds=5, group=group)
    folds = fold_of(rows, validation, classes)
    assert set(folds.values()) == set(range(5))
    assert fold_of(rows.repartition(7).orderBy(F.rand(3)), validation, classes) == folds
    assert fold_of(rows, validation, classes, seed=2) != folds


def test_each_class_is_spread_over_all_folds_alike(rows):
    counted = assign_folds(rows, CrossValidation(folds=4), 4, 1).groupBy(LABEL, FOLD).count().collect()
    sizes: dict[float, list[int]] = {}
    for row in counted:
        sizes.setdefault(row[LABEL], []).append(row["count"])
    assert sorted(sizes) == [0, 1, 2, 3]
    assert all(len(counts) == 4 and max(counts) - min(counts) <= 1 for counts in sizes.values())


def test_rows_of_a_group_and_equal_rows_share_a_fold(rows):
    grouped = assign_folds(rows, CrossValidation(folds=5, group="group"), 0, 1)
    assert grouped.groupBy("group").agg(F.count_distinct(FOLD).alias("folds")).where("folds > 1").isEmpty()
    doubled = assign_folds(rows.unionAll(rows), CrossValidation(folds=5), 4, 1)
    assert doubled.groupBy(ROW_ID).agg(F.count_distinct(FOLD).alias("folds")).where("folds > 1").isEmpty()


@pytest.mark.parametrize(
    ("validation", "classes", "message"),
    [
        (CrossValidation(folds=13), ["a", "b", "c", "rare"], r"only 12 different rows with class 'rare'"),
    ],
)
def test_folds_that_the_rows_cannot_fill_are_refused(rows, validation, classes, message):
    with pytest.raises(BadInput, match=message):
        check_folds(rows, validation, classes, 1)


def test_as_many_groups_as_folds_fill_them(rows):
    check_folds(rows, CrossValidation(folds=50, group="group"), [], 1)
    with pytest.raises(BadInput, match=r"folds = 5: there are only 4 groups of group in train and validation"):
        check_folds(rows.where("group < 4"), CrossValidation(folds=5, group="group"), [], 1)


def test_folds_by_group_that_lack_a_class_are_refused(rows):
    rare = rows.withColumn(LABEL, F.when(F.col("group") < 2, 1.0).otherwise(0.0))
    by_group = CrossValidation(folds=3, group="group")
    with pytest.raises(BadInput, match=r"only 2 groups of group with class 'yes' in train and validation"):
        check_folds(rare, by_group, ["no", "yes"], 1)
    half = rows.withColumn(LABEL, (F.col("group") < 4).cast("double"))
    with pytest.raises(BadInput, match=r"folds = 4: not every fold would have rows of each class, but \d of 8 parts"):
        check_folds(half, CrossValidation(folds=4, group="group"), ["no", "yes"], 1)


def test_more_folds_than_rows_are_refused(rows):
    with pytest.raises(BadInput, match=r"folds = 5: there are only 3 different rows in train and validation together"):
        check_folds(rows.where("id < 3"), CrossValidation(folds=5), [], 1)
