"""Reading: what types and values come out of CSV, Parquet and scikit-learn, and what is said when none can."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.testing.utils import assertDataFrameEqual

from retune.data.files import BAD, MISSING
from retune.data.sources import TableRead, read_tables
from retune.data_section import ROWS, Data, FileData, SklearnData
from retune.errors import BadInput

CALIFORNIA = Path(os.environ.get("SCIKIT_LEARN_DATA", "/nowhere")) / "cal_housing_py3.pkz"


def read_file(spark: SparkSession, path: str, form: str | None = None) -> DataFrame:
    return read_table(spark, path, format=form).rows


def read_table(spark: SparkSession, path: str, types: dict[str, str] | None = None, **fields: Any) -> TableRead:
    data = FileData.model_validate({"source": "file", "path": path, "target": "y", **fields})
    return read_tables(spark, data, {ROWS: types or {}}, lambda _: [path])[ROWS]


def read_source(spark: SparkSession, data: Data) -> DataFrame:
    return read_tables(spark, data, {}, lambda _: [])[ROWS].rows


@pytest.fixture
def read_csv(spark: SparkSession, write_csv: Callable[..., str]) -> Callable[[str], DataFrame]:
    return lambda text: read_file(spark, write_csv(text))


def values(rows: DataFrame, name: str) -> list[object]:
    return [row[name] for row in rows.collect()]


def test_csv_quotes_hold_commas_quotes_and_line_breaks(read_csv):
    rows = read_csv('a,y\n"x, ""1""",1\n"two\nlines",2\n')
    assert [tuple(row) for row in rows.collect()] == [('x, "1"', 1), ("two\nlines", 2)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_lines_end_as_on_any_system(read_csv, end):
    assert [tuple(row) for row in read_csv(end.join(["a,y", "p,1", "q,2", ""])).collect()] == [("p", 1), ("q", 2)]


def test_csv_byte_order_mark_is_no_part_of_a_name(read_csv):
    assert read_csv("\ufeffa,y\n1,2\n").columns == ["a", "y"]


def test_csv_ways_to_write_missing_become_null(read_csv):
    lines = [f"{missing},1" for missing in MISSING]
    assert values(read_csv("\n".join(["a,y", "p,1", *lines, ""])), "a") == ["p", *[None] * len(MISSING)]


@pytest.mark.parametrize("missing", ["", "NA", "?"])
def test_csv_numbers_with_missing_ones_are_double(read_csv, missing):
    rows = read_csv(f"a,y\n1.5,1\n{missing},2\n-2e3,3\n")
    assert rows.schema["a"].dataType == T.DoubleType()
    assert values(rows, "a") == [1.5, None, -2000.0]


@pytest.mark.parametrize("missing", ["", "NA"])
def test_csv_whole_numbers_with_missing_ones_are_double_as_in_pandas(read_csv, missing):
    rows = read_csv(f"a,y\n1,1\n{missing},2\n")
    assert dict(rows.dtypes) == {"a": "double", "y": "bigint"}


@pytest.mark.parametrize("missing", ["", "NA"])
def test_csv_booleans_with_missing_ones_are_boolean(read_csv, missing):
    rows = read_csv(f"a,y\nTrue,1\nFALSE,2\n{missing},3\n")
    assert rows.schema["a"].dataType == T.BooleanType()
    assert values(rows, "a") == [True, False, None]


def test_csv_text_that_is_partly_numbers_stays_text(read_csv):
    assert values(read_csv("a,y\n1,1\nNA,2\ntwo,3\n"), "a") == ["1", None, "two"]


def test_csv_column_without_any_value_is_null_text(read_csv):
    rows = read_csv("a,b,y\n,NA,1\n,NA,2\n")
    assert dict(rows.dtypes) == {"a": "string", "b": "string", "y": "bigint"}
    assert values(rows, "a") == values(rows, "b") == [None, None]


def test_csv_spaces_around_unquoted_values_and_names_do_not_count(read_csv):
    rows = read_csv(' a , y\n p ,1\np , 2\n"  p",3\n')
    assert rows.columns == ["a", "y"]
    assert values(rows, "a") == ["p", "p", "  p"]
    assert values(rows, "y") == [1, 2, 3]


def test_csv_whole_numbers_beyond_64_bits_are_double(read_csv):
    assert values(read_csv("a,y\n99999999999999999999,1\n3,2\n"), "a") == [1e20, 3.0]


def test_csv_column_names_may_have_any_characters(read_csv):
    rows = read_csv("a.b,c d,e`f,größe,y\n1,NA,x,?,2\n2,3,NA,1.5,4\n")
    assert [tuple(row) for row in rows.collect()] == [(1, None, "x", None, 2), (2, 3.0, None, 1.5, 4)]


def test_csv_codes_that_java_takes_for_numbers_stay_text(read_csv):
    rows = read_csv("a,b,y\n1D,0x1p3,1\n2F,2,2\n")
    assert dict(rows.dtypes) == {"a": "string", "b": "string", "y": "bigint"}


def test_csv_days_and_times_have_their_types_and_times_without_a_day_are_text(read_csv):
    rows = read_csv("day,at,hour,y\n2016-05-01,2016-05-01 00:55:25,10:30,1\n2016-05-02,NA,,2\n")
    assert dict(rows.dtypes) == {"day": "date", "at": "timestamp", "hour": "string", "y": "bigint"}
    assert values(rows, "day") == [date(2016, 5, 1), date(2016, 5, 2)]


def test_csv_files_whose_columns_are_in_another_order_are_refused(spark, tmp_path):
    (tmp_path / "1.csv").write_text("a,b,y\n1,2,3\n")
    (tmp_path / "2.csv").write_text('"a" , b,y\n4,5,6\n')
    assert read_file(spark, str(tmp_path), "csv").count() == 2
    (tmp_path / "3.csv.gz").write_bytes(gzip.compress(b"b,a,y\n4,5,6\n"))
    with pytest.raises(BadInput, match=r"3.csv.gz has the columns b, a, y, but .*1.csv has a, b, y; write them in"):
        read_file(spark, str(tmp_path), "csv")


def test_csv_column_names_must_differ(read_csv):
    with pytest.raises(BadInput, match=r"has the column 'a' 2 times; rename all but one"):
        read_csv("a,b,a,y\n1,2,3,4\n")
    assert len(read_csv("a,,,y\n1,2,3,4\n").columns) == 4


def test_csv_that_is_not_utf_8_is_told_of(spark, tmp_path, caplog):
    (tmp_path / "rows.csv").write_bytes("city,y\nKöln,1\nBonn,2\n".encode("latin-1"))
    assert values(read_file(spark, str(tmp_path / "rows.csv")), "city") == ["K\ufffdln", "Bonn"]
    assert "'city' has letters that are not UTF-8" in caplog.text
    caplog.clear()
    (tmp_path / "rows.csv").write_bytes("stra\u00dfe,y\nKoeln,1\nBonn,2\n".encode("latin-1"))
    read_file(spark, str(tmp_path / "rows.csv"))
    assert "'stra\ufffde' has letters that are not UTF-8" in caplog.text


def test_csv_may_be_compressed(spark, tmp_path):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b'a,y\n"two\nlines",1\n'))
    assert values(read_file(spark, str(path)), "a") == ["two\nlines"]


def test_csv_folder_is_read_as_one(spark, tmp_path):
    (tmp_path / "1.csv").write_text("a,y\np,1\n")
    (tmp_path / "2.csv").write_text("a,y\nq,2\n")
    assertDataFrameEqual(
        read_file(spark, str(tmp_path), "csv"), spark.createDataFrame([("p", 1), ("q", 2)], "a string, y bigint")
    )


def test_types_are_settled_over_all_files_of_a_folder(spark, tmp_path):
    (tmp_path / "1.csv").write_text("a,y\n1,1\n")
    (tmp_path / "2.csv").write_text("a,y\nNA,2\n")
    assert read_file(spark, str(tmp_path), "csv").schema["a"].dataType == T.DoubleType()


def test_parquet_numbers_become_bigint_or_double_and_the_rest_stays(spark, tmp_path):
    row = (1, 2, 3, 1.5, Decimal("2.50"), "p", True, date(2020, 1, 1), [1.0])
    kinds = "tiny tinyint, whole int, gap int, f float, d decimal(10,2), s string, b boolean, day date, a array<double>"
    spark.createDataFrame([row, (*row[:2], None, *row[3:])], kinds).write.parquet(str(tmp_path / "rows"))
    found = dict(read_file(spark, str(tmp_path / "rows")).dtypes)
    assert found == {
        "tiny": "bigint", "whole": "bigint", "gap": "double", "f": "double", "d": "double",
        "s": "string", "b": "boolean", "day": "date", "a": "array<double>",
    }  # fmt: skip


def test_parquet_column_names_may_have_any_characters(spark, tmp_path):
    rows = spark.createDataFrame([(1, None), (2, 3)], "`a.b c` bigint, `e``f(),;{}=` int")
    rows.write.parquet(str(tmp_path / "rows"))
    expected = spark.createDataFrame([(1, None), (2, 3.0)], "`a.b c` bigint, `e``f(),;{}=` double")
    assertDataFrameEqual(read_file(spark, str(tmp_path / "rows")), expected)


@pytest.mark.parametrize(
    ("dataset", "count", "columns", "target"),
    [
        ("diabetes", 442, 11, "double"),
        ("breast_cancer", 569, 31, "bigint"),
        ("iris", 150, 5, "bigint"),
        ("wine", 178, 14, "bigint"),
        ("digits", 1797, 65, "bigint"),
    ],
)
def test_scikit_learn_sets_that_ship_with_it(spark, dataset, count, columns, target):
    rows = read_source(spark, SklearnData(source="sklearn", dataset=dataset, target="target"))
    assert (rows.count(), len(rows.columns)) == (count, columns)
    assert dict(rows.dtypes)["target"] == target


@pytest.mark.skipif(not CALIFORNIA.exists(), reason="needs SCIKIT_LEARN_DATA with California Housing in it")
def test_california_housing(spark):
    rows = read_source(spark, SklearnData(source="sklearn", dataset="california_housing", target="MedHouseVal"))
    assert (rows.count(), len(rows.columns)) == (20640, 9)


def test_california_housing_without_network_says_what_to_set(spark, tmp_path, monkeypatch):
    from sklearn.datasets import _california_housing

    def no_network(*args: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setattr(_california_housing, "_fetch_remote", no_network)
    with pytest.raises(BadInput, match=r"california_housing: .*no network.*set SCIKIT_LEARN_DATA"):
        read_source(spark, SklearnData(source="sklearn", dataset="california_housing", target="MedHouseVal"))


def test_scikit_learn_target_by_another_name_is_told(spark):
    with pytest.raises(BadInput, match=r"data\.target = 'species': the data set iris calls it 'target'"):
        read_source(spark, SklearnData(source="sklearn", dataset="iris", target="species"))


@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere.parquet", "nowhere"])
def test_missing_path_is_named(spark, tmp_path, name):
    path = str(tmp_path / name)
    with pytest.raises(BadInput, match=f"^data.path = {path}: .*Path does not exist"):
        read_file(spark, path)


def test_folder_without_files_is_refused(spark, tmp_path):
    with pytest.raises(
        BadInput, match=r"data\.path = .*: has no parquet file in it; give another path, or data\.format"
    ):
        read_file(spark, str(tmp_path))


def test_what_is_no_parquet_is_refused_with_the_cause_and_the_way_out(spark, tmp_path):
    (tmp_path / "rows.csv").write_text("a,y\n1,2\n3,4\n")
    with pytest.raises(BadInput, match=r"cannot be read as parquet: .*is not a Parquet file.*; give data\.format"):
        read_file(spark, str(tmp_path))


def test_parquet_files_that_differ_are_put_together_or_refused_by_column(spark, tmp_path):
    spark.sql("SELECT 1D AS x, 2D AS y").write.parquet(str(tmp_path / "rows"))
    spark.sql("SELECT 3D AS x, 4D AS y, 'red' AS color").write.mode("append").parquet(str(tmp_path / "rows"))
    rows = read_file(spark, str(tmp_path / "rows")).orderBy("x").collect()
    assert [row["color"] for row in rows] == [None, "red"]
    spark.sql("SELECT 5L AS x, 6D AS y").write.mode("append").parquet(str(tmp_path / "rows"))
    with pytest.raises(
        BadInput, match=r"data\.path = .*rows: its files differ in the type of x \((bigint|double), .*same"
    ):
        read_file(spark, str(tmp_path / "rows"))


def test_unknown_file_system_is_named(spark):
    with pytest.raises(BadInput, match=r'data\.path = zz://x/y\.csv: .*No FileSystem for scheme "zz"'):
        read_file(spark, "zz://x/y.csv")


def test_broken_archive_is_refused_with_the_cause(spark, tmp_path):
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(b"a,y\n1,2\n" * 1000)[:-20])
    with pytest.raises(BadInput, match=r"rows\.csv\.gz: cannot be read as csv: Unexpected end of input stream"):
        read_file(spark, str(tmp_path / "rows.csv.gz"))


def test_csv_without_a_byte_is_refused(read_csv):
    with pytest.raises(BadInput, match=r"rows\.csv: is empty"):
        read_csv("")


def test_csv_of_a_header_alone_has_columns_and_no_rows(read_csv):
    rows = read_csv("a,y\n")
    assert (rows.columns, rows.count()) == (["a", "y"], 0)


TYPES = {"a": "bigint", "t": "timestamp", "y": "double"}


def bad_rows(table: TableRead) -> list[str]:
    assert table.bad is not None
    return [row[BAD] for row in table.bad.collect()]


def test_rows_whose_types_do_not_parse_are_set_aside_as_they_are(spark, write_csv):
    text = "a,t,y,c\n1,2016-05-01 00:55:25,2,x\nx1,2016-05-01,3,x\n1.5,,4,x\n,yesterday,5,x\n,10:00,6,x\n,NA,?,x\n"
    table = read_table(spark, write_csv(text), TYPES)
    assert table.rows.dtypes == [("a", "double"), ("t", "timestamp"), ("y", "double"), ("c", "string")]
    assert [(row.a, row.t and row.t.isoformat(), row.y) for row in table.rows.collect()] == [
        (1.0, "2016-05-01T00:55:25", 2.0),
        (None, None, None),
    ]
    assert [json.loads(row) for row in bad_rows(table)] == [
        {"a": "x1", "t": "2016-05-01", "y": "3", "c": "x"},
        {"a": "1.5", "y": "4", "c": "x"},
        {"t": "yesterday", "y": "5", "c": "x"},
        {"t": "10:00", "y": "6", "c": "x"},
    ]


def test_columns_without_a_given_type_are_guessed(spark, write_csv, tmp_path):
    table = read_table(spark, write_csv("zip,price,kind,y\n007,1.5,a,1\n010,?,b,2\n"), {"zip": "string"})
    assert table.rows.dtypes == [("zip", "string"), ("price", "double"), ("kind", "string"), ("y", "bigint")]
    assert [row["zip"] for row in table.rows.collect()] == ["007", "010"]
    assert bad_rows(table) == []
    (tmp_path / "rows.json").write_text('{"zip": 7, "price": 1.5, "y": 1, "kind": "a"}\n{"zip": 10, "y": 2}\n')
    table = read_table(spark, str(tmp_path / "rows.json"), {"zip": "string"})
    kinds = {"zip": "string", "price": "double", "kind": "string", "y": "bigint"}
    assert dict(table.rows.dtypes) == kinds


def test_a_row_with_more_or_fewer_fields_than_the_header_is_bad(spark, write_csv):
    table = read_table(spark, write_csv("a,y\n1,2\n3\n4,5,6\n\n7,8\n"), {"a": "bigint", "y": "bigint"})
    assert [tuple(row) for row in table.rows.collect()] == [(1, 2), (7, 8)]
    assert bad_rows(table) == ["3", "4,5,6"]


def test_keys_of_one_table_of_many_stay_whole_numbers(spark, write_csv):
    path = write_csv("id,y\n-1221079188409351161,1\n,2\n")
    data = FileData.model_validate({"source": "file", "tables": {"events": path}, "target": "y"})
    (table,) = read_tables(spark, data, {"events": {"id": "bigint", "y": "bigint"}}, lambda _: [path]).values()
    assert [tuple(row) for row in table.rows.collect()] == [(-1221079188409351161, 1), (None, 2)]


def test_a_table_that_lacks_a_column_is_refused(spark, write_csv):
    with pytest.raises(BadInput, match=r"lacks the column 't'; it has a, y$"):
        read_table(spark, write_csv("a,y\n1,2\n"), TYPES)


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.ndjson.gz"])
def test_json_has_an_object_a_line_and_torn_lines_are_bad(spark, tmp_path, name):
    text = '{"a": 1, "y": 2.5, "c": "x"}\n{"a": 2, "y"\n{"a": null, "y": 3}\n'
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    table = read_table(spark, str(tmp_path / name))
    assert [row.asDict() for row in table.rows.collect()] == [
        {"a": 1.0, "y": 2.5, "c": "x"},
        {"a": None, "y": 3.0, "c": None},
    ]
    assert bad_rows(table) == ['{"a": 2, "y"']


def test_json_is_read_by_types_too(spark, tmp_path):
    (tmp_path / "rows.json").write_text('{"a": 1, "y": 2}\n{"a": "x", "y": 3}\n{"a": 4, "y"\n')
    table = read_table(spark, str(tmp_path / "rows.json"), {"a": "bigint", "y": "double"})
    assert [tuple(row) for row in table.rows.collect()] == [(1, 2.0)]
    assert bad_rows(table) == ['{"a":"x","y":"3"}', '{"a": 4, "y"']


def test_parquet_is_read_by_types_too(spark, tmp_path):
    spark.createDataFrame([("1", 2.0), ("x", 3.0)], "a string, y double").write.parquet(str(tmp_path / "rows"))
    table = read_table(spark, str(tmp_path / "rows"), {"a": "bigint", "y": "double"})
    assert [tuple(row) for row in table.rows.collect()] == [(1, 2.0)]
    assert bad_rows(table) == ['{"a":"x","y":3.0}']


def test_a_fraction_is_no_whole_number_in_parquet_either(spark, tmp_path):
    spark.createDataFrame([(1.0, 2.0), (1.7, 3.0)], "a double, y double").write.parquet(str(tmp_path / "rows"))
    table = read_table(spark, str(tmp_path / "rows"), {"a": "bigint"})
    assert [tuple(row) for row in table.rows.collect()] == [(1, 2.0)]
    assert bad_rows(table) == ['{"a":1.7,"y":3.0}']


def test_a_file_system_that_spark_does_not_know_has_a_way_out(spark):
    with pytest.raises(BadInput, match=r"No FileSystem for scheme.*the sources azure_blob, s3 and gcs need no further"):
        read_file(spark, "nowhere://bucket/rows.csv")
