"""Reading an experiment's data: one table of rows, or many with names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from retune.data.files import BAD, read_files, reading
from retune.data_section import ROWS, SklearnData, StoredData
from retune.errors import BadInput
from retune.spark import quote

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableRead:
    """A table as its source has it.

    Attributes:
        rows: Those that could be read; whole numbers are bigint, other numbers double, so that pandas and Spark agree
            on a model's signature; whole numbers with missing values are double too, as pandas would have them, but
            for one table of many, in which they may be keys.
        bad: Those that could not, with the one column `retune_bad`; None where none can be bad.
    """

    rows: DataFrame
    bad: DataFrame | None = None


def read_tables(
    spark: SparkSession,
    data: SklearnData | StoredData,
    types: Mapping[str, Mapping[str, str]],
    locate: Callable[[str], list[str]],
) -> dict[str, TableRead]:
    """Read tables of `data` whole.

    Args:
        spark: The session.
        data: What to read.
        types: The tables: column → Spark type, where types are known.
        locate: Gives the URIs of a table's files.

    Raises:
        BadInput: A table cannot be read; the message names path and cause.
    """
    if isinstance(data, SklearnData):
        return {ROWS: TableRead(_normalize(_read_sklearn(spark, data)))}
    return {table: _read_table(spark, data, table, known, locate(table)) for table, known in types.items()}


def _read_table(
    spark: SparkSession, data: StoredData, table: str, types: Mapping[str, str], uris: list[str]
) -> TableRead:
    field = data.field(table)
    read = read_files(spark, uris, data.format, types, field, guess=data.tables is None)
    kept = frozenset(types if data.tables else ())
    with reading(field, data.format or "a table", given=True):  # only now Spark looks into all files
        if BAD not in read.columns:
            return TableRead(_normalize(read, kept))
        read = read.cache()
        good = read.where(F.col(BAD).isNull()).drop(BAD)
        return TableRead(_normalize(good, kept), read.where(F.col(BAD).isNotNull()).select(BAD))


def _read_sklearn(spark: SparkSession, data: SklearnData) -> DataFrame:
    from sklearn import datasets

    name = "fetch_california_housing" if data.dataset == "california_housing" else f"load_{data.dataset}"
    try:
        frame = getattr(datasets, name)(as_frame=True).frame
    except OSError as error:
        raise BadInput(
            f"data.dataset = {data.dataset}: scikit-learn could not download it ({error}); "
            "set SCIKIT_LEARN_DATA to a folder that has it, or connect to the network"
        ) from error
    if data.target != "target" and data.target not in frame.columns and "target" in frame.columns:
        raise BadInput(f"data.target = {data.target!r}: the data set {data.dataset} calls it 'target'")
    return spark.createDataFrame(frame)


def _normalize(rows: DataFrame, kept: frozenset[str] = frozenset()) -> DataFrame:
    fields = [field for field in rows.schema.fields if field.name not in kept]
    whole = [f.name for f in fields if isinstance(f.dataType, T.IntegralType)]
    other = [f.name for f in fields if isinstance(f.dataType, T.FractionalType)]
    with_nulls = _columns_with_nulls(rows, whole)
    casts = {name: "double" if name in with_nulls or name in other else "bigint" for name in whole + other}
    # Parquet as pandas writes it: without a zone, which the session's, UTC, stands in for.
    naive = [f.name for f in rows.schema.fields if isinstance(f.dataType, T.TimestampNTZType)]
    casts |= dict.fromkeys(naive, "timestamp")
    return rows.withColumns({name: F.col(quote(name)).cast(kind) for name, kind in casts.items()})


def _columns_with_nulls(rows: DataFrame, names: list[str]) -> set[str]:
    if not names:
        return set()
    nulls = rows.agg(*[F.max(F.col(quote(n)).isNull()).alias(str(i)) for i, n in enumerate(names)]).first()
    assert nulls is not None
    return {name for i, name in enumerate(names) if cast(bool, nulls[str(i)])}
