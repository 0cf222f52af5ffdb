"""Featurize: split the rows, fit the feature pipeline on train rows, apply it to all."""

from __future__ import annotations

import logging

from pyspark.sql import functions as F

from retune.data.folds import check_folds
from retune.data.splits import LABEL, ROW_ID, SPLIT, SPLITS, add_label, assign_splits, check_splits
from retune.features.tabular import FEATURES, choose_columns, drop_identifiers, fit_features
from retune.handoff import FEATURE_LIST, PROFILE, Stage
from retune.search_section import CrossValidation
from retune.spark import quote, read_parquet, spark_session

log = logging.getLogger(__name__)


def run(stage: Stage) -> None:
    """Publish `train`, `validation`, `test` (Parquet, a folder each) and `features` (the fitted pipeline).

    Each split holds the raw columns, `retune_label`, `retune_row_id` and the vector `retune_features`.
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
        train = rows.where(F.col(SPLIT) == "train")
        not_features = [experiment.data.target, SPLIT, LABEL, ROW_ID]
        columns, left_out = choose_columns(rows.schema, experiment.features, not_features)
        columns, identifiers = drop_identifiers(train, columns, experiment.features.max_categories)
        left_out |= identifiers
        for name, reason in left_out.items():
            log.info("column %s is left out: %s", name, reason)
        log.info("%d features, %d of them categories", len(columns), sum(c.kind == "category" for c in columns))
        model = fit_features(train, columns)
        model.write().save(f"{stage.folder}/features")
        kept = [quote(name) for name in [*rows.columns, FEATURES]]
        model.transform(rows).select(*kept).write.partitionBy(SPLIT).parquet(f"{stage.folder}/rows")
    feature_list = {"features": [{"name": c.name, "kind": c.kind} for c in columns], "left_out": left_out}
    stage.client.log_dict(stage.run_id, feature_list, FEATURE_LIST)
    stage.log_metrics({**{f"{name}_rows": count for name, count in counts.items()}, "features": len(columns)})
    stage.publish(features=f"{stage.folder}/features", **{s: f"{stage.folder}/rows/{SPLIT}={s}" for s in SPLITS})
