"""What tune and retrain share: rows laid out for the trainer and kept in memory while models are fitted to them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from retune.data.splits import LABEL, ROW_ID, SPLIT
from retune.features.base import FEATURES
from retune.handoff import Stage
from retune.spark import Slots, quote, read_parquet
from retune.trainers.base_cluster import ClusterTrainer

log = logging.getLogger(__name__)
_ROWS_PER_PARTITION = 5_000


def read_split(spark: SparkSession, stage: Stage, split: str, also: Sequence[str] = ()) -> DataFrame:
    """Read what models are fitted to and scored on: features, label, row id, the split's name, and columns `also`."""
    rows = read_parquet(spark, stage.output("featurize", split))
    return rows.select(ROW_ID, FEATURES, LABEL, F.lit(split).alias(SPLIT), *map(quote, also))


@contextmanager
def laid_out(rows: DataFrame, trainer: ClusterTrainer, slots: Slots | None = None) -> Iterator[DataFrame]:
    """Arrange `rows` for the trainer and hold them, in memory where they fit and on disk where not.

    Args:
        rows: What models are fitted to or scored on.
        trainer: Knows how it wants them.
        slots: The cluster to arrange them for; by default the one that is there.
    """
    with held_rows(trainer.layout(rows, slots or Slots.of(rows.sparkSession))) as held:
        yield held


def spread(rows: DataFrame, count: int, slots: Slots) -> DataFrame:
    """Give each core a partition, if there are rows enough: models predict row by row, on one core a partition."""
    partitions = max(1, min(slots.executors * slots.cores, count // _ROWS_PER_PARTITION))
    return rows.repartition(partitions, ROW_ID) if partitions > 1 else rows.coalesce(1)


@contextmanager
def held_rows(rows: DataFrame) -> Iterator[DataFrame]:
    """Hold rows, in memory where they fit and on disk where not."""
    held = rows.persist(StorageLevel.MEMORY_AND_DISK)
    partitions = held.rdd.getNumPartitions()
    log.info("%d rows in %d partition%s", held.count(), partitions, "" if partitions == 1 else "s")
    try:
        yield held
    finally:
        held.unpersist()
