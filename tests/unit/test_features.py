"""Which columns become features, and which columns data must have."""

from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import types as T
from unit.experiments import build_experiment

from retune.data.profile import check_columns
from retune.errors import BadInput
from retune.features.tabular import Column, choose_columns
from retune.features_section import TabularFeatures

SCHEMA = T.StructType(
    [
        T.StructField("age", T.LongType()),
        T.StructField("height", T.DoubleType()),
        T.StructField("price", T.DecimalType(10, 2)),
        T.StructField("member", T.BooleanType()),
        T.StructField("city", T.StringType()),
        T.StructField("since", T.DateType()),
        T.StructField("path", T.ArrayType(T.DoubleType())),
        T.StructField("target", T.DoubleType()),
    ]
)
ALL = ["age", "height", "price", "member", "city"]


def choose(**features: Any) -> tuple[list[Column], dict[str, str]]:
    return choose_columns(SCHEMA, TabularFeatures(**features), ["target"])


def test_numbers_booleans_and_text_become_features_without_being_listed():
    columns, left_out = choose()
    assert [column.name for column in columns] == ALL
    assert [column.kind for column in columns] == ["number", "number", "number", "number", "category"]
    assert [column.cast for column in columns] == ["double", "double", "double", "double", "string"]
    assert left_out.keys() == {"since", "path"}
    assert left_out["since"] == "is date, neither number, text nor boolean; cast it in features.cast"


def test_listed_columns_come_in_the_order_of_the_data():
    columns, left_out = choose(columns=["city", "age"])
    assert [column.name for column in columns] == ["age", "city"]
    assert left_out["height"] == "as the experiment says"


def test_dropped_columns_are_left_out():
    columns, left_out = choose(drop=["age", "since"])
    assert [column.name for column in columns] == ALL[1:]
    assert left_out["age"] == left_out["since"] == "as the experiment says"


@pytest.mark.parametrize(
    ("name", "cast", "kind"),
    [
        ("age", "string", "category"),
        ("city", "double", "number"),
        ("city", "boolean", "number"),
        ("since", "string", "category"),
    ],
)
def test_a_cast_decides_what_kind_of_feature_a_column_is(name, cast, kind):
    columns, _ = choose(cast={name: cast})
    assert Column(name, kind, cast) in columns


def test_a_listed_column_that_cannot_be_a_feature_is_refused():
    with pytest.raises(BadInput, match=r"^features\.columns: since is date, neither number, text nor boolean"):
        choose(columns=["age", "since"])


def test_data_without_a_feature_is_refused():
    with pytest.raises(BadInput, match=r"^features: no column of the data can be a feature"):
        choose(drop=ALL)


def check(columns: list[str], kind: str = "double", **sections: Any) -> None:
    # Only names and types are looked at, so no session is needed.
    rows: Any = SimpleNamespace(columns=columns, dtypes=[(name, kind) for name in columns])
    check_columns(rows, build_experiment(**({"features": {}, "split": {}} | sections)))


def test_columns_that_are_there_pass():
    check(["arr_delay", "age", "City"])


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({}, "data.target = 'arr_delay'"),
        ({"split": {"key": ["id"]}}, "split.key = 'id'"),
        ({"features": {"columns": ["id"]}}, "features.columns = 'id'"),
        ({"features": {"drop": ["id"]}}, "features.drop = 'id'"),
        ({"features": {"cast": {"id": "string"}}}, "features.cast = 'id'"),
    ],
)
def test_a_column_that_is_named_but_not_there_is_refused(sections, field):
    columns = ["age", "arr_delay"] if sections else ["age", "ARR_DELAY"]
    with pytest.raises(BadInput, match=f"^{field}: no such column in the data; it has age, "):
        check(columns, **sections)


@pytest.mark.parametrize("name", ["retune_label", "Retune_anything", "prediction", "Prediction"])
def test_a_column_of_a_name_that_retune_needs_is_refused(name):
    with pytest.raises(BadInput, match=f"^column '{name}': the names prediction and "):
        check(["arr_delay", name])


def test_columns_that_differ_only_in_case_are_refused():
    with pytest.raises(BadInput, match=r"^column 'age': another differs from it only in case"):
        check(["arr_delay", "age", "Age"])


@pytest.mark.parametrize("kind", ["map<string,double>", "array<map<string,int>>"])
def test_columns_of_maps_are_refused(kind):
    with pytest.raises(BadInput, match=f"^column 'arr_delay': is {kind}, and Spark cannot compare maps"):
        check(["arr_delay"], kind)
