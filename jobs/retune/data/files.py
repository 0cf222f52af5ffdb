"""Files that Spark reads: CSV, JSON lines and Parquet, and the rows among them that cannot be read as they should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from retune.errors import BadInput, root_cause
from retune.spark import quote

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "?")
"""What a CSV may write for a missing value (a subset of pandas' list, plus UCI's question mark)."""

BAD = "retune_bad"
"""The column that holds a bad row as its file has it, as text; null in a good row."""

_ENDINGS = {
    ".csv": "csv", ".csv.gz": "csv", ".csv.bz2": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json",
    ".json.gz": "json", ".jsonl.gz": "json", ".ndjson.gz": "json", ".parquet": "parquet",
}  # fmt: skip


def form_by_name(name: str) -> str | None:
    """Return the form of a file, or of what a zip holds, by its name's ending; None if that tells none."""
    lower = name.lower().removesuffix(".zip")
    return next((form for ending, form in _ENDINGS.items() if lower.endswith(ending)), None)


def read_files(
    spark: SparkSession, uris: Sequence[str], form: str | None, types: Mapping[str, str], field: str
) -> DataFrame:
    """Read files of one table.

    Args:
        spark: The session.
        uris: The files, of one form.
        form: `csv`, `json` or `parquet`; None: by the first one's ending, else Parquet.
        types: Column → Spark type, of columns that must be there; without any, all types are guessed.
        field: What errors call the files.

    Returns:
        All columns, and `retune_bad` where a row can be bad: where types are given, and in JSON.

    Raises:
        BadInput: The files cannot be read, or lack a column.
    """
    kind = form or form_by_name(uris[0]) or "parquet"
    try:
        rows = _read(spark, list(uris), kind, typed=bool(types))
        if not rows.columns:
            raise BadInput(f"{field}: is empty, without even column names")
        return _cast(rows, types, field) if types else rows
    except BadInput:
        raise
    except AnalysisException as error:
        raise BadInput(f"{field}: {_first_line(str(error))}") from error
    except Exception as error:  # Py4J hands on whatever a Hadoop file system throws
        reason = _first_line(root_cause(error))
        way_out = "; give data.format if it is not Parquet" if form is None and kind == "parquet" else ""
        if "No FileSystem for scheme" in reason or "ClassNotFoundException" in reason:
            way_out = "; the sources azure_blob, s3 and gcs need no further jars"
        raise BadInput(f"{field}: cannot be read as {kind}: {reason}{way_out}") from error


def _read(spark: SparkSession, uris: list[str], kind: str, typed: bool) -> DataFrame:
    if kind == "parquet":
        return spark.read.parquet(*uris)
    return _read_csv(spark, uris, typed) if kind == "csv" else _read_json(spark, uris, typed)


def _read_csv(spark: SparkSession, uris: list[str], typed: bool) -> DataFrame:
    options: dict[str, Any] = {
        "header": True,
        "escape": '"',
        "ignoreLeadingWhiteSpace": True,
        "ignoreTrailingWhiteSpace": True,
        "multiLine": True,  # a line break inside quotes would tear its row apart; the price is one task a file
    }
    if not typed:
        return _retype_strings(spark.read.csv(uris, inferSchema=True, **options))
    names = spark.read.csv(uris, **options).columns
    # A row with more or fewer fields than the header is bad too, which Spark tells where it is given a schema.
    schema = T.StructType([T.StructField(name, T.StringType()) for name in [*names, BAD]])
    return _null_missing(spark.read.csv(uris, schema=schema, columnNameOfCorruptRecord=BAD, **options))


def _read_json(spark: SparkSession, uris: list[str], typed: bool) -> DataFrame:
    rows = spark.read.json(uris, columnNameOfCorruptRecord=BAD, primitivesAsString=typed)
    # Spark refuses to look at this column alone in files, but not in rows that it keeps.
    return rows.cache() if BAD in rows.columns else rows


def _cast(rows: DataFrame, types: Mapping[str, str], field: str) -> DataFrame:
    """Read columns as their types; a row with a value that cannot be is bad."""
    for name in types:
        if name not in rows.columns:
            have = ", ".join(column for column in rows.columns if column != BAD)
            raise BadInput(f"{field}: lacks the column {name!r}; it has {have}")
    names = [name for name in rows.columns if name != BAD]
    cast = {name: _as_type(name, kind) for name, kind in types.items()}
    unreadable = F.lit(False)
    for name, value in cast.items():
        unreadable |= F.col(quote(name)).isNotNull() & value.isNull()
    text = F.to_json(F.struct(*map(quote, names)))
    torn = F.col(BAD) if BAD in rows.columns else F.lit(None).cast("string")
    columns = [cast.get(name, F.col(quote(name))).alias(name) for name in names]
    return rows.select(*columns, F.coalesce(torn, F.when(unreadable, text)).alias(BAD))


def _as_type(name: str, kind: str) -> Column:
    """Return a column as a type; null where a value is none of it."""
    value, text = F.expr(f"try_cast({quote(name)} AS {kind})"), F.col(quote(name)).cast("string")
    if kind == "bigint":  # Spark would cut a fraction off
        return F.when(F.expr(f"try_cast({quote(name)} AS double)") == value.cast("double"), value)
    if kind in ("date", "timestamp"):  # and take a time of day for today's
        return F.when(text.rlike(r"^\s*\d{4}"), value)
    return value


def _null_missing(rows: DataFrame) -> DataFrame:
    strings = [f.name for f in rows.schema.fields if isinstance(f.dataType, T.StringType) and f.name != BAD]
    return rows.withColumns({n: F.when(~F.col(quote(n)).isin(*MISSING), F.col(quote(n))) for n in strings})


def _retype_strings(rows: DataFrame) -> DataFrame:
    """Null the ways a CSV writes "missing", and make columns numeric or boolean that are so but for them."""
    strings = [f.name for f in rows.schema.fields if isinstance(f.dataType, T.StringType)]
    if not strings:
        return rows
    cleaned = _null_missing(rows)
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


def _first_line(text: str) -> str:
    return text.splitlines()[0][:300] if text else "no reason given"
