"""Reading an experiment's data into one DataFrame."""

from __future__ import annotations

from typing import cast

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from retune.errors import BadInput, root_cause
from retune.experiment import FileData, SklearnData
from retune.spark import quote

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "?")
"""What a CSV may write for a missing value (a subset of pandas' list, plus UCI's question mark)."""


def read_source(spark: SparkSession, data: SklearnData | FileData) -> DataFrame:
    """Read all rows and columns, with types normalised.

    Whole numbers become bigint, other numbers double, so that pandas and Spark agree on a model's signature; whole
    numbers with missing values become double too, as pandas would have them.

    Raises:
        BadInput: The data cannot be read; the message names path and cause.
    """
    rows = _read_sklearn(spark, data) if isinstance(data, SklearnData) else _read_file(spark, data)
    return _normalize(rows)


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


def _read_file(spark: SparkSession, data: FileData) -> DataFrame:
    kind = data.format or ("csv" if data.path.lower().endswith((".csv", ".csv.gz", ".csv.bz2")) else "parquet")
    try:
        rows = spark.read.parquet(data.path) if kind == "parquet" else _retype_strings(_read_csv(spark, data.path))
    except AnalysisException as error:
        raise BadInput(f"data.path = {data.path}: {_first_line(str(error))}") from error
    except Exception as error:  # Py4J hands on whatever a Hadoop file system throws
        way_out = "; give data.format if it is not Parquet" if data.format is None and kind == "parquet" else ""
        raise BadInput(
            f"data.path = {data.path}: cannot be read as {kind}: {_first_line(root_cause(error))}{way_out}"
        ) from error
    if not rows.columns:
        raise BadInput(f"data.path = {data.path}: is empty, without even column names")
    return rows


def _read_csv(spark: SparkSession, path: str) -> DataFrame:
    return spark.read.csv(
        path,
        header=True,
        inferSchema=True,
        escape='"',
        ignoreLeadingWhiteSpace=True,
        ignoreTrailingWhiteSpace=True,
        multiLine=True,  # a line break inside quotes would tear its row apart; the price is one task a file
    )


def _retype_strings(rows: DataFrame) -> DataFrame:
    """Null the ways a CSV writes "missing", and make columns numeric or boolean that are so but for them."""
    strings = [f.name for f in rows.schema.fields if isinstance(f.dataType, T.StringType)]
    if not strings:
        return rows
    cleaned = rows.withColumns({n: F.when(~F.col(quote(n)).isin(*MISSING), F.col(quote(n))) for n in strings})
    counts = cleaned.agg(
        *[F.count(quote(n)).alias(f"{i}_given") for i, n in enumerate(strings)],
        *[F.count(F.col(quote(n)).cast("double")).alias(f"{i}_double") for i, n in enumerate(strings)],
        *[F.count_if(F.lower(quote(n)).isin("true", "false")).alias(f"{i}_boolean") for i, n in enumerate(strings)],
    ).first()
    assert counts is not None
    kinds = {
        name: kind
        for i, name in enumerate(strings)
        for kind in ("double", "boolean")
        if 0 < counts[f"{i}_given"] == counts[f"{i}_{kind}"]
    }
    return cleaned.withColumns({name: F.col(quote(name)).cast(kind) for name, kind in kinds.items()})


def _normalize(rows: DataFrame) -> DataFrame:
    whole = [f.name for f in rows.schema.fields if isinstance(f.dataType, T.IntegralType)]
    other = [f.name for f in rows.schema.fields if isinstance(f.dataType, T.FractionalType)]
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


def _first_line(text: str) -> str:
    return text.splitlines()[0][:300] if text else "no reason given"
