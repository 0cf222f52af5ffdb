"""What ingest knows of the data: which targets and names it refuses, the fingerprint, the classes."""

from __future__ import annotations

import math
from datetime import date

import pytest
from pyspark.sql import functions as F

from retune.data.profile import check_columns, prepare_target, profile_rows
from retune.errors import BadInput


@pytest.fixture
def frame(spark):
    return lambda rows, kinds: spark.createDataFrame(rows, kinds).coalesce(1)


@pytest.fixture
def fingerprint(frame, build_experiment):
    def compute(rows, kinds):
        return profile_rows(frame(rows, kinds), 0, build_experiment())["fingerprint"]

    return compute


@pytest.fixture
def profile(frame, build_experiment):
    """Prepare and profile rows of one column, the target."""

    def compute(labels, kind, problem):
        experiment = build_experiment(problem)
        rows = prepare_target(frame([(label,) for label in labels], f"y {kind}"), experiment)
        return profile_rows(rows, len(labels) - rows.count(), experiment)

    return compute


ROWS = [(1, "p", 0.5), (2, None, 1.5), (2, None, 1.5), (None, "q", 2.5)]
KINDS = "a bigint, b string, y double"
GROUPED = {
    "metric": "r2",
    "max_trials": 1,
    "space": {"numLeaves": {"type": "uniformint", "low": 3, "high": 9}},
    "validation": {"type": "cross_validation", "group": "k"},
}


def test_fingerprint_is_unmoved_by_order_and_partitions(numbered, build_experiment):
    shuffled = numbered.repartition(7).orderBy(F.rand(3))
    found = {profile_rows(rows, 0, build_experiment())["fingerprint"] for rows in (numbered, shuffled)}
    assert len(found) == 1


def test_fingerprint_is_unmoved_by_the_order_of_columns(fingerprint):
    assert fingerprint(ROWS, KINDS) == fingerprint([(b, a, y) for a, b, y in ROWS], "b string, a bigint, y double")


CHANGED = {
    "text": [*ROWS[:3], (None, "Q", 2.5)],
    "last bit": [*ROWS[:3], (None, "q", math.nextafter(2.5, 3))],
    "null to 0": [*ROWS[:3], (0, "q", 2.5)],
    "null to empty": [ROWS[0], (2, "", 1.5), *ROWS[2:]],
    "one less": [ROWS[0], *ROWS[2:]],
    "one twice": [*ROWS, ROWS[0]],
    "a pair less": [ROWS[0], ROWS[3]],
    "another pair": [ROWS[0], (3, None, 1.5), (3, None, 1.5), ROWS[3]],
    "values swapped": [(1, "q", 0.5), *ROWS[1:3], (None, "p", 2.5)],
}


@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED)
def test_fingerprint_moves_with_any_value(fingerprint, changed):
    assert fingerprint(changed, KINDS) != fingerprint(ROWS, KINDS)


@pytest.mark.parametrize("kinds", ["aa bigint, b string, y double", "a double, b string, y double"])
def test_fingerprint_moves_with_any_name_or_type(fingerprint, kinds):
    rows = [(float(a) if a and "a double" in kinds else a, b, y) for a, b, y in ROWS]
    assert fingerprint(rows, kinds) != fingerprint(ROWS, KINDS)


def test_fingerprint_tells_nulls_apart(fingerprint):
    kinds = "a bigint, b bigint, y double"
    other = (0, 0, 2.0)
    assert fingerprint([(None, 1, 1.0), other], kinds) != fingerprint([(1, None, 1.0), other], kinds)


def test_profile_counts_rows_and_names_types(frame, build_experiment):
    profile = profile_rows(frame(ROWS, KINDS), 3, build_experiment())
    assert {name: profile[name] for name in ("rows", "rows_without_target", "schema", "classes")} == {
        "rows": 4,
        "rows_without_target": 3,
        "schema": {"a": "bigint", "b": "string", "y": "double"},
        "classes": [],
    }


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        (["b", "a", "C", "ü", " a", "1.0"], "string", [" a", "1.0", "C", "a", "b", "ü"]),
        ([2, -1, 10], "bigint", [-1, 2, 10]),
        ([2.0, -1.0, 10.0], "double", [-1, 2, 10]),
        ([True, False], "boolean", [False, True]),
    ],
)
def test_classes_are_sorted_and_of_their_own_type(profile, labels, kind, classes):
    found = profile(labels, kind, "multiclass")["classes"]
    assert found == classes
    assert {type(value) for value in found} == {type(classes[0])}


@pytest.mark.parametrize(
    ("labels", "kind", "problem", "rows"),
    [
        ([1.0, None, 2.0, math.nan], "double", "regression", 2),
        ([1.0, None, 2.0, math.nan], "double", "binary", 2),
        (["p", None, "q", "q"], "string", "binary", 3),
    ],
)
def test_rows_without_a_target_are_left_out_and_counted(profile, labels, kind, problem, rows):
    found = profile(labels, kind, problem)
    assert (found["rows"], found["rows_without_target"]) == (rows, len(labels) - rows)


@pytest.mark.parametrize(
    ("labels", "kind", "problem", "message"),
    [
        (["1", "x"], "string", "regression", "regression needs a number, but the column is string"),
        ([True, False], "boolean", "regression", "regression needs a number, but the column is boolean"),
        ([date(2020, 1, 1)], "date", "regression", "regression needs a number, but the column is date"),
        ([1.0, math.inf], "double", "regression", "has infinite values"),
        ([1.0, -math.inf], "double", "regression", "has infinite values"),
        ([3.5, 3.5], "double", "regression", "is a constant, 3.5"),
        ([1.0, 2.5], "double", "binary", "has fractions, which name no classes"),
        ([1.0, math.inf], "double", "binary", "has fractions, which name no classes"),
        ([date(2020, 1, 1)], "date", "multiclass", "a column of date names no classes"),
        ([[1.0]], "array<double>", "multiclass", "a column of array<double> names no classes"),
        (["p", "p", None], "string", "binary", "is one class only, 'p'"),
        ([False, False], "boolean", "multiclass", "is one class only, False"),
        ([3, 1, 2], "bigint", "binary", r"has more than 2 classes \(1, 2, 3, …\); use problem: multiclass"),
        (list(range(101)), "bigint", "multiclass", r"has more than 100 classes \(0, 1, 2, …\)"),
    ],
)
def test_target_that_cannot_be_learnt_is_refused(profile, labels, kind, problem, message):
    with pytest.raises(BadInput, match=f"^data.target = 'y': .*{message}"):
        profile(labels, kind, problem)


@pytest.mark.parametrize("kind", ["string", "double", "bigint"])
@pytest.mark.parametrize("problem", ["regression", "binary"])
def test_target_without_any_value_is_refused_whatever_its_type(profile, kind, problem):
    with pytest.raises(BadInput, match=r"^data: no rows to learn from \(all 2 rows lack the target\)"):
        profile([None, None], kind, problem)


def test_data_without_rows_are_refused(profile):
    with pytest.raises(BadInput, match=r"^data: no rows to learn from$"):
        profile([], "string", "regression")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"source": "file", "path": "p", "target": "Y"}}, r"data\.target = 'Y': no such column.* it has a, y"),
        ({"split": {"key": ["a", "k"]}}, r"split\.key = 'k': no such column"),
        ({"features": {"columns": ["a", "k"]}}, r"features\.columns = 'k': no such column"),
        ({"features": {"drop": ["k"]}}, r"features\.drop = 'k': no such column"),
        ({"features": {"cast": {"k": "string"}}}, r"features\.cast = 'k': no such column"),
        ({"search": GROUPED}, r"search\.validation\.group = 'k': no such column"),
    ],
)
def test_column_that_is_not_there_is_named(frame, build_experiment, sections, message):
    with pytest.raises(BadInput, match=message):
        check_columns(frame([(1, 2)], "a int, y int"), build_experiment(**sections))


@pytest.mark.parametrize("name", ["prediction", "Prediction", "retune_label", "RETUNE_x"])
def test_reserved_names_are_refused_in_any_case(frame, build_experiment, name):
    with pytest.raises(BadInput, match=f"^column '{name}': the names prediction and retune_\\* are retune's own"):
        check_columns(frame([(1, 2)], f"{name} int, y int"), build_experiment())


def test_names_that_differ_only_in_case_are_refused(frame, build_experiment):
    with pytest.raises(BadInput, match=r"^column 'a': another differs from it only in case"):
        check_columns(frame([(1, 2, 3)], "a int, A int, y int"), build_experiment())


def test_maps_are_refused_at_any_depth(frame, build_experiment):
    with pytest.raises(BadInput, match=r"^column 'm': is struct<.*map<.*>, and Spark cannot compare maps"):
        check_columns(frame([(({"k": 1},), 2)], "m struct<n map<string,int>>, y int"), build_experiment())
