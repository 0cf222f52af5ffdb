"""Splits: which rows fall where, what moves them and what does not, and which splits are refused."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.testing.utils import assertDataFrameEqual

from retune.data.splits import LABEL, ROW_ID, SPLIT, SPLITS, add_label, assign_splits, check_splits
from retune.errors import BadInput
from retune.experiment import Split


def ids_by_split(rows: DataFrame, split: Split) -> dict[str, set[int]]:
    found = assign_splits(rows, split).groupBy(SPLIT).agg(F.collect_list("id").alias("ids")).collect()
    assert sum(len(row.ids) for row in found) == sum(len(set(row.ids)) for row in found)
    return {row[SPLIT]: set(row.ids) for row in found}


def test_splits_are_disjoint_and_exhaustive(numbered):
    found = ids_by_split(numbered, Split())
    assert sorted(found) == sorted(SPLITS)
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 1000


def test_splits_are_unmoved_by_partitions_and_order(numbered):
    shuffled = numbered.repartition(5, "x").orderBy(F.rand(1))
    assert ids_by_split(shuffled, Split()) == ids_by_split(numbered, Split())


def test_splits_are_unmoved_by_the_order_of_columns(numbered):
    turned = numbered.select(*reversed(numbered.columns))
    assert ids_by_split(turned, Split()) == ids_by_split(numbered, Split())


@pytest.mark.parametrize(("validation", "test"), [(0.15, 0.25), (0.4, 0.4), (0.1, 0.1)])
def test_fractions_are_about_right(numbered, validation, test):
    found = ids_by_split(numbered, Split(validation=validation, test=test))
    spread = 4 * (0.25 * 1000) ** 0.5
    assert abs(len(found["validation"]) - 1000 * validation) < spread
    assert abs(len(found["test"]) - 1000 * test) < spread


def test_seed_draws_other_splits(numbered):
    first, second = ids_by_split(numbered, Split(seed=1)), ids_by_split(numbered, Split(seed=2))
    # Independent draws of a quarter share a sixteenth of all rows.
    assert 30 < len(first["test"] & second["test"]) < 100


def test_equal_rows_fall_on_one_side(numbered):
    twice = numbered.unionByName(numbered)
    sides = assign_splits(twice, Split()).groupBy("id").agg(F.countDistinct(SPLIT).alias("sides"))
    assert sides.where("sides > 1").isEmpty()


def test_key_keeps_groups_together(numbered):
    sides = assign_splits(numbered, Split(key=["group"])).groupBy("group").agg(F.countDistinct(SPLIT).alias("sides"))
    assert {row.sides for row in sides.collect()} == {1}


def test_key_holds_rows_in_place_when_a_column_is_added(numbered):
    wider = numbered.withColumn("new", F.rand(1))
    split = Split(key=["group", "color"])
    assert ids_by_split(wider, split) == ids_by_split(numbered, split)


def test_key_holds_rows_in_place_when_rows_are_added(numbered):
    split = Split(key=["id"])
    before, after = ids_by_split(numbered.where("id < 300"), split), ids_by_split(numbered, split)
    assert before == {name: {i for i in ids if i < 300} for name, ids in after.items()}


def test_row_id_tells_rows_apart(numbered):
    assert assign_splits(numbered, Split()).select(ROW_ID).distinct().count() == 1000


def test_columns_are_only_added(numbered):
    rows = assign_splits(numbered, Split())
    assert rows.columns == [*numbered.columns, ROW_ID, SPLIT]
    assertDataFrameEqual(rows.drop(ROW_ID, SPLIT), numbered)


@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        ("string", ["", " a", "a", "a.b", "it's", 'q"', "ü"]),
        ("bigint", [-(2**40), -1, 0, 2**40]),
        ("boolean", [False, True]),
    ],
)
def test_label_is_the_index_of_the_class(spark, kind, classes):
    rows = spark.createDataFrame([(value,) for value in classes], f"`the target` {kind}")
    expected = [(value, float(index)) for index, value in enumerate(classes)]
    assertDataFrameEqual(
        add_label(rows, "the target", classes), spark.createDataFrame(expected, f"`the target` {kind}, {LABEL} double")
    )


def test_label_of_a_regression_is_the_target(spark):
    rows = add_label(spark.createDataFrame([(3,)], "y bigint"), "y", [])
    assertDataFrameEqual(rows, spark.createDataFrame([(3, 3.0)], f"y bigint, {LABEL} double"))


@pytest.fixture
def split_rows(spark):
    """Build rows from labels by split."""

    def build(train, validation, test):
        named = zip(SPLITS, (train, validation, test), strict=True)
        return spark.createDataFrame(
            [(name, label) for name, labels in named for label in labels], f"{SPLIT} string, {LABEL} double"
        )

    return build


TEN = [0.0, 1.0] * 5


def test_rows_of_each_split_are_counted(split_rows):
    rows = split_rows(TEN * 3, TEN, TEN * 2)
    assert check_splits(rows, []) == check_splits(rows, ["p", "q"]) == {"train": 30, "validation": 10, "test": 20}


@pytest.mark.parametrize("classes", [[], ["p", "q"]])
@pytest.mark.parametrize("count", [0, 9])
def test_small_split_is_refused(split_rows, classes, count):
    with pytest.raises(BadInput, match=f"^split: validation would have {count} rows, but needs 10 at least"):
        check_splits(split_rows(TEN, TEN[:count], TEN), classes)


def test_split_without_one_of_the_classes_is_refused(split_rows):
    with pytest.raises(BadInput, match=r"^split: test would have no row of class 'r'"):
        check_splits(split_rows([*TEN, 2.0], [*TEN, 2.0], TEN), ["p", "q", "r"])


def test_split_with_a_constant_target_is_refused(split_rows):
    with pytest.raises(BadInput, match=r"^split: all 12 rows of train have the same target"):
        check_splits(split_rows([7.0] * 12, TEN, TEN), [])
