"""The way of rows from Spark to the single-machine fits: collected once, shared as files."""

from __future__ import annotations

import gc
import logging
import pickle
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipimport import zipimporter

import numpy as np
from pyspark import RDD, SparkFiles
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from retune.data.folds import FOLD, assign_folds
from retune.data.splits import LABEL, ROW_ID
from retune.data.table import Table, TableFiles, open_table, pack_features, stack_features, write_table
from retune.features.base import FEATURES
from retune.handoff import PROFILE, Stage
from retune.placements.feature_list import has_bags, read_features
from retune.search_section import CrossValidation
from retune.spark import quote, read_parquet

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
_PART = "retune_part"
VECTOR_PARTS = ("size", "indices", "values")
_TWO_SEGMENTS = 2**17  # bytes; one of the loopback device has 65,483
# How Spark keeps a vector in Parquet; read as what it is, it travels by Arrow, sparse ones without being made dense.
_VECTOR = T.StructType(
    [
        T.StructField("type", T.ByteType()),
        T.StructField("size", T.IntegerType()),
        T.StructField("indices", T.ArrayType(T.IntegerType())),
        T.StructField("values", T.ArrayType(T.DoubleType())),
    ]
)


def read_table(spark: SparkSession, stage: Stage) -> Table:
    """Collect train and validation rows, in an order that hangs on the rows alone."""
    experiment, validation = stage.experiment, stage.experiment.search.validation
    train, rest = (read_plain_split(spark, stage, split) for split in ("train", "validation"))
    if isinstance(validation, CrossValidation):
        classes = len(stage.artifact("ingest", PROFILE)["classes"])
        rows = assign_folds(train.unionByName(rest), validation, classes, experiment.split.seed)
        rows = rows.withColumnRenamed(FOLD, _PART)
    else:
        rows = train.withColumn(_PART, F.lit(-1)).unionByName(rest.withColumn(_PART, F.lit(0)))
    features = read_features(stage)
    kinds = [feature.kind for feature in features for _ in feature.slots]
    categories = tuple(index for index, kind in enumerate(kinds) if kind == "category")
    return _collect(rows, categories, has_bags(features))


def read_plain_split(spark: SparkSession, stage: Stage, split: str) -> DataFrame:
    """Read a split with its vectors as structs of `VECTOR_PARTS`, as Parquet has them."""
    uri = stage.output("featurize", split)
    known = read_parquet(spark, uri).schema
    plain = T.StructType([T.StructField(f.name, _VECTOR if f.name == FEATURES else f.dataType) for f in known])
    return spark.read.schema(plain).parquet(uri)


def _collect(rows: DataFrame, categories: tuple[int, ...], sparsely: bool) -> Table:
    vector = [F.col(f"{FEATURES}.{part}").alias(part) for part in VECTOR_PARTS]
    ordered = rows.orderBy(_PART, ROW_ID).select(
        *vector, F.col(quote(LABEL)).alias("label"), F.col(_PART).alias("part")
    )
    packed = ordered.mapInPandas(_pack, "block binary").collect()
    blocks = [pickle.loads(row.block) for row in packed]  # noqa: S301 - this application's own tasks wrote them
    log.info("%d rows collected in %d blocks", sum(len(labels) for _, labels, _ in blocks), len(blocks))
    features, labels, parts = zip(*blocks, strict=True)
    return Table(stack_features(list(features), sparsely), np.concatenate(labels), np.concatenate(parts), categories)


def _pack(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    for rows in batches:
        features = pack_features(rows["size"].to_numpy(), list(rows["indices"]), list(rows["values"]))
        block = (features, rows["label"].to_numpy(np.float64), rows["part"].to_numpy(np.int32))
        yield pd.DataFrame({"block": [pickle.dumps(block)]})


@contextmanager
def shared(spark: SparkSession, table: Table, name: str) -> Iterator[TableFiles]:
    """Send a table to every executor, once, and give what names it there."""
    with tempfile.TemporaryDirectory(prefix="retune-table-") as folder:
        files = write_table(table, Path(folder), name)
        for path in files.paths:
            spark.sparkContext.addFile(str(Path(folder) / path))
        yield files


def open_shared(files: TableFiles) -> Table:
    """Map a table within a Spark task."""
    return open_table(files, SparkFiles.getRootDirectory())


def run_in_task(spark: SparkSession, function: Any, *arguments: Any) -> Any:
    """Call `function` in one Spark task and return what it returns."""
    return run_in_tasks(spark, function, [arguments])[0]


def run_in_tasks(spark: SparkSession, function: Any, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call `function` once in each of as many Spark tasks of one job, and return what it returns, in order.

    A task reads its input to the end: else Spark takes its Python worker for broken and starts another for the next
    task, which then imports all libraries anew, for seconds.
    """

    def call(index: int, items: Iterator[Any]) -> Iterator[Any]:
        for _ in items:
            yield function(*calls[index])
        _prepare_for_next_task()

    return list(_input_of_tasks(spark, len(calls)).mapPartitionsWithIndex(call).collect())


@cache
def _input_of_tasks(spark: SparkSession, tasks: int) -> RDD[bytes]:
    """Return one item for each of so many tasks, the same for all jobs: to make it costs the JVM 10 ms.

    Spark flushes what it sends to a worker once in the middle, and Nagle's algorithm holds the rest back until the
    worker's kernel acknowledges the first part, after 40 ms; unless the rest fills whole segments.
    """
    return spark.sparkContext.parallelize([bytes(_TWO_SEGMENTS)] * tasks, tasks)


def _prepare_for_next_task() -> None:
    """Spare the next task of this Python worker what PySpark does around each: 100 ms with all libraries imported."""
    _freeze_libraries()
    # Before each, it calls `importlib.invalidate_caches()`, at which every reader of `pyspark.zip`, one a package
    # in it, reads the whole directory of the archive. Python makes them anew, at no cost, when it imports from one.
    for path, reader in list(sys.path_importer_cache.items()):
        if isinstance(reader, zipimporter):
            del sys.path_importer_cache[path]


@cache
def _freeze_libraries() -> None:
    """Have garbage collected among objects that come later: after each task PySpark does so, of libraries are 10^5."""
    gc.collect()
    gc.freeze()
