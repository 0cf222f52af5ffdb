"""Ingest: read the source once, look at it, and keep it as Parquet."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag
from pyspark.sql import DataFrame, SparkSession

from retune import settings
from retune.connection import Connection, read_connection
from retune.data.files import BAD
from retune.data.profile import Profile, check_columns, fingerprint_tables, prepare_target, profile_rows
from retune.data.sources import TableRead, read_tables
from retune.data.staging import Staged, Staging, summarize, unpack_at
from retune.data.stores import Store
from retune.data_section import ROWS, BlobData, SklearnData, StoredData
from retune.errors import BadInput
from retune.functions import check_functions
from retune.handoff import FINGERPRINT, PROFILE, Stage
from retune.settings import without_password
from retune.spark import spark_session
from retune.tracking import mlflow_schema
from retune.trainers import load_trainer

log = logging.getLogger(__name__)
SOURCES = "sources.json"  # of each blob that was read: table, name, version, size, whether it was fetched


def run(stage: Stage) -> None:
    """Publish `data`: a Parquet folder of all rows with a target, and the artifact `profile.json`.

    Of many tables, `tables` is a folder with a Parquet folder for each of the others. Rows that could not be read are
    in `quarantine`, likewise.
    """
    experiment = stage.experiment
    trainer = load_trainer(experiment.model.trainer)
    trainer.require_installed()
    trainer.check(experiment)
    check_functions(experiment)
    connection = _connection(stage)
    with spark_session(f"{experiment.name} ingest") as spark:
        trainer.require(spark)
        log.info("reading %s", source_of(stage))
        tables = _read(spark, stage, connection)
        outputs = _set_bad_rows_aside(stage, tables)
        raw = tables.pop(experiment.features.rows_table or ROWS).rows.cache()
        check_columns(raw, experiment)
        rows = prepare_target(raw, experiment)
        profile = profile_rows(rows, raw.count() - rows.count(), experiment)
        if profile["rows_without_target"]:
            log.warning("%d rows without a target were left out", profile["rows_without_target"])
        outputs["data"] = f"{stage.folder}/data"
        rows.write.parquet(outputs["data"])
        others = _write_tables(stage, tables)
        profile["fingerprint"] = fingerprint_tables(profile["fingerprint"], others)
        outputs |= {"tables": f"{stage.folder}/tables"} if others else {}
    log.info("%d rows, %d columns, fingerprint %s", profile["rows"], len(profile["schema"]), profile["fingerprint"])
    _log_profile(stage, profile)
    stage.publish(**outputs)


def source_of(stage: Stage) -> str:
    """Return where the data come from, for people."""
    return without_password(stage.experiment.data.where)


def _connection(stage: Stage) -> Connection | None:
    name = getattr(stage.experiment.data, "connection", None)
    if name is None:
        return None
    if stage.credentials is None:
        raise BadInput(f"data.connection = {name!r}: by hand, a job is told the connection by --credentials FILE")
    return read_connection(stage.credentials, name)


def _read(spark: SparkSession, stage: Stage, connection: Connection | None) -> dict[str, TableRead]:
    data, features = stage.experiment.data, stage.experiment.features
    if isinstance(data, SklearnData):
        return read_tables(spark, data, {}, lambda _: [])
    types: Mapping[str, Mapping[str, str]] = features.tables or {
        ROWS: data.types
    }  # of a pipeline's tables, those that it needs
    if isinstance(data, BlobData):
        uris = _fetch(spark, stage, data, connection, list(types))
    else:
        uris = {table: [_find(spark, stage, data.paths[table])] for table in types}
    return read_tables(spark, data, types, uris.__getitem__)


def _find(spark: SparkSession, stage: Stage, path: str) -> str:
    return unpack_at(spark, path, f"{stage.folder}/unpacked") if path.lower().endswith(".zip") else path


def _fetch(
    spark: SparkSession, stage: Stage, data: BlobData, connection: Connection | None, tables: list[str]
) -> dict[str, list[str]]:
    """Bring the blobs of tables into the workspace, and write down what was read."""
    kept = f"{settings.workspace()}/{stage.experiment.name}/blobs"
    store = f"{data.source} {data.locate('')}"
    staging = Staging(spark, Store(data, connection), store, kept, f"{stage.folder}/blobs")
    staged: dict[str, list[Staged]] = {table: staging.stage(table) for table in tables}
    everything = [each for table in staged.values() for each in table]
    log.info("%s", summarize(everything))
    sources = [
        {
            "table": table,
            "name": without_password(each.blob.name),
            "etag": each.blob.version,
            "size": each.blob.size,
            "fetched": each.fetched,
        }
        for table, found in staged.items()
        for each in found
    ]
    stage.client.log_dict(stage.run_id, {"sources": sources}, SOURCES)
    stage.log_metrics({"blobs": len(everything), "blobs_fetched": sum(each.fetched for each in everything)})
    return {table: [each.uri for each in found] for table, found in staged.items()}


def _set_bad_rows_aside(stage: Stage, tables: dict[str, TableRead]) -> dict[str, str]:
    """Keep the rows that could not be read, and refuse too many of them."""
    data, folder = stage.experiment.data, f"{stage.folder}/quarantine"
    found = {name: (table.bad, table.bad.count()) for name, table in tables.items() if table.bad is not None}
    for name, (bad, count) in found.items():
        if not count:
            continue
        bad.coalesce(1).write.parquet(f"{folder}/{name}")
        assert isinstance(data, StoredData)
        first = str(bad.select(BAD).head()[0])[:200]
        told = f"{data.field(name)}: {count} bad rows, kept in {folder}/{name}; the first: {first}"
        if count > data.max_bad_rows:
            raise BadInput(f"{told}; mend them, or allow for so many by data.max_bad_rows, now {data.max_bad_rows}")
        log.warning("%s", told)
    total = sum(count for _, count in found.values())
    if found:
        stage.log_metrics({"bad_rows": total})
    return {"quarantine": folder} if total else {}


def _write_tables(stage: Stage, tables: dict[str, TableRead]) -> dict[str, DataFrame]:
    """Write the tables beside that of the rows, and return them as written."""
    written = {}
    for name, table in tables.items():
        uri = f"{stage.folder}/tables/{name}"
        table.rows.write.parquet(uri)
        written[name] = table.rows.sparkSession.read.parquet(uri)
        if written[name].isEmpty():
            assert isinstance(stage.experiment.data, StoredData)
            raise BadInput(f"{stage.experiment.data.field(name)}: has no rows")
    return written


def _log_profile(stage: Stage, profile: Profile) -> None:
    stage.client.log_dict(stage.run_id, dict(profile), PROFILE)
    stage.log_metrics({"rows": profile["rows"], "rows_without_target": profile["rows_without_target"]})
    stage.client.set_tag(stage.run_id, FINGERPRINT, profile["fingerprint"])
    dataset = MetaDataset(
        HTTPDatasetSource(source_of(stage)),
        name=stage.experiment.name,
        digest=profile["fingerprint"][:8],
        schema=mlflow_schema(profile["schema"]),
    )
    context = [InputTag("mlflow.data.context", "training")]
    stage.client.log_inputs(stage.run_id, [DatasetInput(dataset._to_mlflow_entity(), context)])
