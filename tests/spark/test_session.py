"""The helpers around the Spark session."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from retune.errors import BadInput
from retune.spark import Slots, hash_of_rows, quote, read_parquet


@pytest.mark.parametrize("name", ["plain", "a.b", "c d", "e`f", "``", "größe", "1", "select", 'g"h', "i\\j", "k\nl"])
def test_quoted_name_finds_its_column(spark, name):
    rows = spark.range(1).withColumnRenamed("id", name)
    assert rows.select(quote(name)).columns == rows.selectExpr(quote(name)).columns == [name]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what a process maps")
def test_java_maps_the_classes_that_set_up_kept(spark):
    java = spark._jvm.java.lang
    if java.System.getProperty("java.specification.version") != "17":
        pytest.skip("this Java keeps no classes")
    mapped = Path(f"/proc/{java.ProcessHandle.current().pid()}/maps").read_text()
    assert str(Path(sys.prefix).resolve() / "classes.jsa") in mapped


def hash_values(spark, rows, columns="a int, b int", seed=None):
    frame = spark.createDataFrame(rows, columns)
    return [row[0] for row in frame.selectExpr(hash_of_rows(frame.columns, seed)).collect()]


def test_hash_does_not_hang_on_the_order_of_columns(spark):
    assert hash_values(spark, [(1, 2)], "a int, b int") == hash_values(spark, [(2, 1)], "b int, a int")


def test_hash_tells_where_a_null_is(spark):
    hashes = hash_values(spark, [(None, 1), (1, None), (None, None), (1, 1), (0, 1), (1, 0)])
    assert len(set(hashes)) == len(hashes)


def test_hash_tells_which_column_has_which_value(spark):
    assert len(set(hash_values(spark, [(1, 2), (2, 1)]))) == 2


def test_hash_moves_with_the_seed(spark):
    assert len({hash_values(spark, [(1, 2)], seed=seed)[0] for seed in (None, 0, 1, 2**31, 2**62)}) == 5


def test_hash_takes_odd_names(spark):
    assert len(set(hash_values(spark, [(1, 2), (1, 3)], "`a.b` int, `c``d e` int"))) == 2


def test_local_session_is_one_executor_with_all_its_cores(spark):
    assert Slots.of(spark) == Slots(executors=1, cores=2)


def test_cores_are_those_there_are_whatever_parallelism_spark_is_told(spark):
    conf = spark.sparkContext._jsc.sc().conf()
    conf.set("spark.default.parallelism", "64")
    try:
        assert spark.sparkContext.defaultParallelism == 64
        assert Slots.of(spark).cores == 2
    finally:
        conf.remove("spark.default.parallelism")


def test_upstream_folder_that_is_gone_names_the_way_out(spark, tmp_path):
    with pytest.raises(
        BadInput, match=r"gone cannot be read \(.*Path does not exist.*run the stage that wrote it again"
    ):
        read_parquet(spark, str(tmp_path / "gone"))
