"""Files that Spark reads: CSV, JSON lines and Parquet, and the rows among them that cannot be read as they should."""

from __future__ import annotations

import csv
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from retune.data_section import form_by_name
from retune.errors import BadInput, root_cause
from retune.spark import quote

log = logging.getLogger(__name__)

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "?")
"""What a CSV may write for a missing value (a subset of pandas' list, plus UCI's question mark)."""

BAD = "retune_bad"
"""The column that holds a bad row as its file has it, as text; null in a good row."""

_NOT_UTF8 = "\ufffd"
"""What Spark reads for bytes that are no UTF-8."""

_CSV: dict[str, Any] = {
    "header": True,
    "escape": '"',
    "ignoreLeadingWhiteSpace": True,
    "ignoreTrailingWhiteSpace": True,
    "multiLine": True,  # a line break inside quotes would tear its row apart; the price is one task a file
}
_FORMS = {
    "double": r"(?i)^\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)\s*$",
    "timestamp": r"^\s*\d{4}-",
}
# As what a text column is looked at, by the type that Spark infers; none of these, it is text.
_LOOKED_AT = {"string": ("double", "boolean", "timestamp"), "double": ("double",), "timestamp": ("timestamp",)}
_PRIMITIVE = ("bigint", "double", "boolean", "date", "timestamp")


def read_files(
    spark: SparkSession, uris: Sequence[str], form: str | None, types: Mapping[str, str], field: str, guess: bool = True
) -> DataFrame:
    """Read files of one table.

    Args:
        spark: The session.
        uris: The files, of one form.
        form: `csv`, `json` or `parquet`; None: by the first one's ending, else Parquet.
        types: Column → Spark type, of columns that must be there.
        field: What errors call the files.
        guess: Whether the types of other columns matter; else those of CSV and JSON may stay text.

    Returns:
        All columns, and `retune_bad` where a row can be bad: where types are given, and in JSON.

    Raises:
        BadInput: The files cannot be read, or lack a column.
    """
    kind = form or form_by_name(uris[0]) or "parquet"
    with reading(field, kind, given=form is not None):
        rows = _read(spark, list(uris), kind, types, field)
        if not rows.columns:
            raise BadInput(f"{field}: is empty, without even column names")
        others = {name for name in rows.columns if name not in (*types, BAD)} if guess else set()
        guessed: dict[str, str] = {}
        if others and kind == "csv":
            guessed = _guess_types(spark, list(uris), rows)
        elif others and types and kind == "json":
            guessed = dict(spark.read.json(list(uris)).dtypes)
        rows = _null_missing(rows) if kind == "csv" else rows
        return _cast(rows, types, {name: of for name, of in guessed.items() if name in others}, field)


@contextmanager
def reading(field: str, kind: str, given: bool = False) -> Iterator[None]:
    """Turn whatever Spark or Hadoop says of files while they are read into a line.

    Args:
        field: What errors call the files.
        kind: Their form.
        given: Whether the user said so.

    Raises:
        BadInput: The line.
    """
    try:
        yield
    except BadInput:
        raise
    except AnalysisException as error:
        if error.getErrorClass() == "UNABLE_TO_INFER_SCHEMA":
            raise BadInput(f"{field}: has no {kind} file in it; give another path, or data.format") from error
        raise BadInput(f"{field}: {_first_line(str(error))}") from error
    except Exception as error:  # Py4J hands on whatever a Hadoop file system throws
        reason = _first_line(root_cause(error))
        way_out = "; give data.format if it is not Parquet" if kind == "parquet" and not given else ""
        if "TIMESTAMP(NANOS" in reason:
            way_out = "; write times in microseconds (pandas: to_parquet(…, coerce_timestamps='us'))"
        if "No FileSystem for scheme" in reason or "ClassNotFoundException" in reason:
            way_out = "; the sources azure_blob, s3 and gcs need no further jars"
        raise BadInput(f"{field}: cannot be read as {kind}: {reason}{way_out}") from error


def _read(spark: SparkSession, uris: list[str], kind: str, types: Mapping[str, str], field: str) -> DataFrame:
    if kind == "parquet":
        return _read_parquet(spark, uris, field)
    return _read_csv(spark, uris, bool(types), field) if kind == "csv" else _read_json(spark, uris, bool(types))


def _read_parquet(spark: SparkSession, uris: list[str], field: str) -> DataFrame:
    """Read the columns of all files; by itself Spark takes those of one, and fails far off where another differs."""
    try:
        return spark.read.parquet(*uris, mergeSchema=True)
    except Py4JJavaError as error:
        schemas = re.findall(r'^"(STRUCT<.*>)"', str(error.java_exception), re.MULTILINE)
        if len(schemas) != 2:
            raise
        one, other = (dict(spark.createDataFrame([], f"row {schema}").select("row.*").dtypes) for schema in schemas)
        differ = [f"{name} ({one[name]}, {other[name]})" for name in one if other.get(name, one[name]) != one[name]]
        raise BadInput(
            f"{field}: its files differ in the type of {', '.join(differ)}; write them all with the same types"
        ) from error


def _read_csv(spark: SparkSession, uris: list[str], typed: bool, field: str) -> DataFrame:
    """Read all as text."""
    first = spark.read.csv(uris, **_CSV)
    _check_headers(spark, sorted(first.inputFiles()), field)
    # A row with more or fewer fields than the header is bad too, which Spark tells where it is given such a column.
    names = [*first.columns, BAD] if typed else first.columns
    _tell_of_letters(name for name in names if _NOT_UTF8 in name)
    schema = T.StructType([T.StructField(name, T.StringType()) for name in names])
    return spark.read.csv(uris, schema=schema, columnNameOfCorruptRecord=BAD, **_CSV)


def _tell_of_letters(columns: Iterable[str]) -> None:
    for name in columns:
        log.warning("%r has letters that are not UTF-8, and all count as %s; write the file in UTF-8", name, _NOT_UTF8)


def _check_headers(spark: SparkSession, files: Sequence[str], field: str) -> None:
    """Refuse files whose columns Spark would rename, or differ from the first file's: it takes them by their place."""
    told = {file: header for file in files if (header := _header_of(spark, file))}
    for file, header in told.items():
        first, wanted = next(iter(told.items()))
        twice = [name for name, times in Counter(header).items() if name and times > 1]
        if twice:
            raise BadInput(
                f"{field}: {file} has the column {twice[0]!r} {header.count(twice[0])} times; rename all but one"
            )
        if header != wanted:
            raise BadInput(
                f"{field}: {file} has the columns {', '.join(header)}, but {first} has {', '.join(wanted)}; "
                "write them in the same order, or leave one out"
            )


def _header_of(spark: SparkSession, file: str) -> list[str]:
    jvm, hadoop_conf = cast(Any, spark._jvm), spark._jsc.hadoopConfiguration()
    path = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(file))
    codec = jvm.org.apache.hadoop.io.compress.CompressionCodecFactory(hadoop_conf).getCodec(path)
    stream = path.getFileSystem(hadoop_conf).open(path)
    text = jvm.java.io.InputStreamReader(codec.createInputStream(stream) if codec else stream, "UTF-8")
    reader = jvm.java.io.BufferedReader(text)
    try:
        line = str(reader.readLine() or "").removeprefix("\ufeff")
    finally:
        reader.close()
    return [name.strip() for name in next(csv.reader([line], skipinitialspace=True), [])]


def _read_json(spark: SparkSession, uris: list[str], typed: bool) -> DataFrame:
    rows = spark.read.json(uris, columnNameOfCorruptRecord=BAD, primitivesAsString=typed)
    # Spark refuses to look at this column alone in files, but not in rows that it keeps.
    return rows.cache() if BAD in rows.columns else rows


def _guess_types(spark: SparkSession, uris: list[str], rows: DataFrame) -> dict[str, str]:
    """Return the types of CSV's columns as Spark infers them, mended by a look at the text.

    Spark takes 1D for a number and 10:30 for a time of today, and does not know all the ways to write "missing".

    Args:
        spark: The session.
        uris: The files.
        rows: What they hold, as text.
    """
    names = [name for name in rows.columns if name != BAD]
    inferred = spark.read.csv(uris, inferSchema=True, **_CSV).schema.fields
    kinds = {name: _kind_of(field.dataType) for name, field in zip(names, inferred, strict=True)}
    doubted = [name for name in names if kinds[name] in _LOOKED_AT]
    if doubted:
        # A row a value, since Spark takes a minute for an aggregate of a thousand columns.
        values = rows.select(F.posexplode(F.array(*map(quote, doubted)))).where(f"col NOT IN {MISSING}")
        looks = [F.bool_and(_reads_as(F.col("col"), kind)).alias(kind) for kind in _LOOKED_AT["string"]]
        looks.append(F.bool_or(F.col("col").contains(_NOT_UTF8)).alias("torn"))
        for row in values.groupBy("pos").agg(*looks).collect():
            name = doubted[row["pos"]]
            _tell_of_letters([name] if row["torn"] else [])
            kinds[name] = next((kind for kind in _LOOKED_AT[kinds[name]] if row[kind]), "string")
    return kinds


def _reads_as(text: Column, kind: str) -> Column:
    return F.lower(text).isin("true", "false") if kind == "boolean" else text.rlike(_FORMS[kind])


def _kind_of(kind: T.DataType) -> str:
    """Return the type that a guess comes to: whole numbers beyond 64 bits, which Spark has as decimals, are double."""
    if isinstance(kind, T.IntegralType):
        return "bigint"
    return "double" if isinstance(kind, T.FractionalType) else kind.simpleString()


def _null_missing(rows: DataFrame) -> DataFrame:
    # By SQL in a whole, as below: a thousand columns are a call of Py4J then, not thousands.
    given = {n: f"IF({quote(n)} IN {MISSING}, NULL, {quote(n)}) AS {quote(n)}" for n in rows.columns if n != BAD}
    return rows.selectExpr(*[given.get(name, name) for name in rows.columns])


def _cast(rows: DataFrame, types: Mapping[str, str], guessed: Mapping[str, str], field: str) -> DataFrame:
    """Read columns as their types; a row with a value that cannot be, of those given, is bad."""
    kinds = {name: kind for name, kind in guessed.items() if kind in _PRIMITIVE}
    columns = [f"CAST({quote(n)} AS {kinds[n]}) AS {quote(n)}" if n in kinds else quote(n) for n in rows.columns]
    rows = rows.selectExpr(*columns) if kinds else rows
    if not types:
        return rows
    for name in types:
        if name not in rows.columns:
            have = ", ".join(column for column in rows.columns if column != BAD)
            raise BadInput(f"{field}: lacks the column {name!r}; it has {have}")
    names = [name for name in rows.columns if name != BAD]
    cast = {name: _as_type(rows, name, kind) for name, kind in types.items()}
    unreadable = F.lit(False)
    for name, value in cast.items():
        unreadable |= F.col(quote(name)).isNotNull() & value.isNull()
    text = F.to_json(F.struct(*map(quote, names)))
    torn = F.col(BAD) if BAD in rows.columns else F.lit(None).cast("string")
    columns = [cast.get(name, F.col(quote(name))).alias(name) for name in names]
    return rows.select(*columns, F.coalesce(torn, F.when(unreadable, text)).alias(BAD))


def _as_type(rows: DataFrame, name: str, kind: str) -> Column:
    """Return a column as a type; null where a value is none of it."""
    value, text = F.expr(f"try_cast({quote(name)} AS {kind})"), F.col(quote(name)).cast("string")
    if kind == "double" and isinstance(rows.schema[name].dataType, T.StringType):
        return F.when(text.rlike(_FORMS["double"]), value)
    if kind == "bigint":  # Spark would cut a fraction off
        return F.when(F.expr(f"try_cast({quote(name)} AS double)") == value.cast("double"), value)
    if kind in ("date", "timestamp"):  # and take a time of day for today's
        return F.when(text.rlike(r"^\s*\d{4}"), value)
    return value


def _first_line(text: str) -> str:
    line = text.splitlines()[0][:300] if text else "no reason given"
    return "".join(letter if letter.isprintable() else "?" for letter in line)  # a file's own bytes may be quoted
