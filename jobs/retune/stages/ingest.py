"""Ingest: read the source once, look at it, and keep it as Parquet."""

from __future__ import annotations

import logging

from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag

from retune.data.profile import Profile, check_columns, prepare_target, profile_rows
from retune.data.sources import read_source
from retune.experiment import SklearnData
from retune.functions import check_functions
from retune.handoff import FINGERPRINT, PROFILE, Stage
from retune.settings import without_password
from retune.spark import spark_session
from retune.tracking import mlflow_schema
from retune.trainers import load_trainer

log = logging.getLogger(__name__)


def run(stage: Stage) -> None:
    """Publish `data`: a Parquet folder of all rows with a target, and the artifact `profile.json`."""
    experiment = stage.experiment
    trainer = load_trainer(experiment.model.trainer)
    trainer.check(experiment)
    check_functions(experiment)
    with spark_session(f"{experiment.name} ingest") as spark:
        trainer.require(spark)
        log.info("reading %s", source_of(stage))
        raw = read_source(spark, experiment.data).cache()
        check_columns(raw, experiment)
        rows = prepare_target(raw, experiment)
        profile = profile_rows(rows, raw.count() - rows.count(), experiment)
        log.info("%d rows, %d columns, fingerprint %s", profile["rows"], len(profile["schema"]), profile["fingerprint"])
        if profile["rows_without_target"]:
            log.warning("%d rows without a target were left out", profile["rows_without_target"])
        uri = f"{stage.folder}/data"
        rows.write.parquet(uri)
    _log_profile(stage, profile)
    stage.publish(data=uri)


def source_of(stage: Stage) -> str:
    """Return where the data come from, for people."""
    data = stage.experiment.data
    return f"sklearn {data.dataset}" if isinstance(data, SklearnData) else without_password(data.path)


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
