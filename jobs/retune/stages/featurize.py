"""Featurize: split the rows, fit the feature pipeline on train rows, apply it to all."""

from __future__ import annotations

import logging
from dataclasses import asdict

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from retune.data.folds import check_folds
from retune.data.splits import LABEL, ROW_ID, SPLIT, SPLITS, add_label, assign_splits, check_splits
from retune.errors import BadInput
from retune.features import load_features
from retune.features.base import FEATURES, Feature
from retune.handoff import FEATURE_LIST, PROFILE, Stage
from retune.search_section import CrossValidation
from retune.spark import quote, read_parquet, spark_session
from retune.trainers import load_trainer

log = logging.getLogger(__name__)
_GREATEST = 3.4028234e38  # of a float32


def run(stage: Stage) -> None:
    """Publish `train`, `validation`, `test` (Parquet, a folder each) and, where there is one, `features` (a pipeline).

    Each split holds the raw columns, `retune_label`, `retune_row_id` and the vector `retune_features`. The artifact
    `features.json` tells of each `Feature`.
    """
    experiment, profile = stage.experiment, stage.artifact("ingest", PROFILE)
    with spark_session(f"{experiment.name} featurize") as spark:
        raw = read_parquet(spark, stage.output("ingest", "data"))
        rows = add_label(assign_splits(raw, experiment.split), experiment.data.target, profile["classes"]).cache()
        counts = check_splits(rows, profile["classes"])
        validation = experiment.search.validation
        if isinstance(validation, CrossValidation):
            check_folds(rows.where(F.col(SPLIT) != "test"), validation, profile["classes"], experiment.split.seed)
        log.info("rows: %s", ", ".join(f"{count} {name}" for name, count in counts.items()))
        pipeline = load_features(experiment.features.pipeline)
        rows = pipeline.prepare(rows, experiment.features, _read_tables(spark, stage))
        not_features = [experiment.data.target, SPLIT, LABEL, ROW_ID]
        fitted = pipeline.fit(rows.where(F.col(SPLIT) == "train"), experiment.features, not_features)
        for name, reason in fitted.left_out.items():
            log.info("column %s is left out: %s", name, reason)
        if not load_trainer(experiment.model.trainer).takes_infinity:
            _refuse_infinity(rows, fitted.features, experiment.model.trainer)
        slots = sum(len(feature.slots) for feature in fitted.features)
        log.info("%d features in %d columns", slots, len(fitted.features))
        outputs = {name: f"{stage.folder}/rows/{SPLIT}={name}" for name in SPLITS}
        kept = [quote(name) for name in [*rows.columns, FEATURES]]
        fitted.transform(rows).select(*kept).write.partitionBy(SPLIT).parquet(f"{stage.folder}/rows")
        if fitted.pipeline:
            outputs["features"] = f"{stage.folder}/features"
            fitted.pipeline.write().save(outputs["features"])
    feature_list = {"features": [asdict(feature) for feature in fitted.features], "left_out": fitted.left_out}
    stage.client.log_dict(stage.run_id, feature_list, FEATURE_LIST)
    stage.log_metrics({**{f"{name}_rows": count for name, count in counts.items()}, "features": slots})
    stage.publish(**outputs)


def _refuse_infinity(rows: DataFrame, features: list[Feature], trainer: str) -> None:
    """Refuse what would fail every trial.

    Raises:
        BadInput: A number is infinite, or none as a float32, which libraries take features for.
    """
    names = [feature.name for feature in features if feature.kind == "number"]
    beyond = [F.count_if(F.abs(F.col(quote(name)).cast("double")) > _GREATEST) for name in names]
    found = rows.agg(*[count.alias(str(i)) for i, count in enumerate(beyond)]).first() if names else None
    for name, count in zip(names, found or (), strict=True):
        if count:
            raise BadInput(
                f"features: column {name} has {count} values that are infinite or beyond ±{_GREATEST:.2g}, which "
                f"{trainer} does not take; replace them in the data, or name the column in features.drop"
            )


def _read_tables(spark: SparkSession, stage: Stage) -> dict[str, DataFrame]:
    """Return the tables that the pipeline needs beside the rows, as ingest kept them."""
    section = stage.experiment.features
    names = [name for name in section.tables if name != section.rows_table]
    return {name: read_parquet(spark, f"{stage.output('ingest', 'tables')}/{name}") for name in names}
