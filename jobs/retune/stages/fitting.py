"""What tune and retrain share: rows laid out for the trainer and kept in memory while models are fitted to them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from retune.data.splits import LABEL, ROW_ID, SPLIT
from retune.features.tabular import FEATURES
from retune.handoff import Stage
from retune.spark import Slots, read_parquet
from retune.trainers.base import Trainer

log = logging.getLogger(__name__)


def read_split(spark: SparkSession, stage: Stage, split: str) -> DataFrame:
    """Read what models are fitted to and scored on: features, label, row id, and the split's name."""
    rows = read_parquet(spark, stage.output("featurize", split))
    return rows.select(ROW_ID, FEATURES, LABEL, F.lit(split).alias(SPLIT))


@contextmanager
def laid_out(rows: DataFrame, trainer: Trainer) -> Iterator[DataFrame]:
    """Arrange `rows` for the trainer and hold them, in memory where they fit and on disk where not."""
    held = trainer.layout(rows, Slots.of(rows.sparkSession)).persist(StorageLevel.MEMORY_AND_DISK)
    partitions = held.rdd.getNumPartitions()
    log.info("%d rows in %d partition%s", held.count(), partitions, "" if partitions == 1 else "s")
    try:
        yield held
    finally:
        held.unpersist()
