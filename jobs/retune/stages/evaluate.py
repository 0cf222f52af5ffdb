"""Evaluate: untuned, challenger and champion on the same test rows; then the champion is decided on."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import mlflow
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame

from retune import registry
from retune.data.splits import LABEL, ROW_ID
from retune.evaluation import score_test
from retune.features.base import FEATURES
from retune.handoff import PROFILE, Stage
from retune.metrics import METRICS
from retune.placements.models import load_model
from retune.plots import plot_confusion, plot_predictions
from retune.promotion import Decision, decide
from retune.spark import read_parquet, spark_session
from retune.trainers import load_trainer
from retune.trainers.base import PREDICTION

log = logging.getLogger(__name__)
DECISION = "retune.promotion"
_PLOTTED_ROWS = 2000


def run(stage: Stage) -> None:
    """Log `untuned_test_*`, `challenger_test_*` and `champion_test_*`, move the alias if deserved."""
    experiment, profile = stage.experiment, stage.artifact("ingest", PROFILE)
    classes = profile["classes"]
    with spark_session(f"{experiment.name} evaluate") as spark:
        load_trainer(experiment.model.trainer).require(spark)
        raw = read_parquet(spark, stage.output("featurize", "test")).drop(FEATURES).cache()
        log.info("scoring on the test rows")
        untuned = load_model(spark, stage.output("retrain", "untuned_model"), stage.folder)
        scored = load_model(spark, stage.output("retrain", "challenger_model"), stage.folder).transform(raw).cache()
        scores = {
            "untuned": score_test(untuned.transform(raw), experiment.problem, len(classes)),
            "challenger": score_test(scored, experiment.problem, len(classes)),
        }
        registered = experiment.search.log_models != "none"
        champion, unusable = _score_champion(stage, raw, scores, classes) if registered else (None, None)
        _log_plot(stage, scored, classes)
    values = {
        f"{model}_test_{name}": v
        for model, metrics in scores.items()
        for name, v in metrics.items()
        if math.isfinite(v)
    }
    stage.log_metrics(values)
    if not registered:
        log.info("search.log_models = none: there is no challenger in the registry, and no champion is decided on")
        return
    decision = _decide_once(stage, scores, champion, unusable)
    stage.ensure_current()
    registry.apply(stage.client, experiment.dag_id, decision)
    log.info("champion %s: %s", "moves" if decision.promote else "stays", decision.reason)


def _score_champion(
    stage: Stage, raw: DataFrame, scores: dict[str, dict[str, float]], classes: list[Any]
) -> tuple[str | None, str | None]:
    """Score the version that the alias `champion` names, if there is one that can be.

    Returns:
        Its version, and why it cannot score today's rows; None each where there is nothing to say.
    """
    experiment = stage.experiment
    written = _written_decision(stage)
    # A retry after the alias moved compares with the champion of then.
    version = written.champion if written else registry.champion_version(stage.client, experiment.dag_id)
    if version is None:
        return None, None
    if version == stage.output("retrain", "challenger"):
        scores["champion"] = scores["challenger"]
        return version, None
    uri = f"models:/{experiment.dag_id}/{version}"
    known = (mlflow.models.get_model_info(uri).metadata or {}).get("retune_classes", [])
    if known != classes:
        return version, f"it tells the classes {known}, the data have {classes}"
    try:
        scores["champion"] = score_test(
            load_model(raw.sparkSession, uri, stage.folder).transform(raw), experiment.problem, len(classes)
        )
    except AnalysisException as error:  # a column it needs is gone; anything else is trouble, and fails the stage
        return version, str(error).splitlines()[0]
    return version, None


def _decide_once(
    stage: Stage, scores: dict[str, dict[str, float]], champion: str | None, unusable: str | None
) -> Decision:
    """Decide, and write the decision down before it is acted on: a retry acts on the same one."""
    if written := _written_decision(stage):
        return written
    name = stage.experiment.search.metric
    decision = decide(
        METRICS[name],
        stage.experiment.promotion.minimum_gain,
        (stage.output("retrain", "challenger"), scores["challenger"][name]),
        None if champion is None else (champion, scores.get("champion", {}).get(name, math.nan)),
        unusable,
    )
    stage.client.set_tag(stage.run_id, DECISION, json.dumps(decision.as_dict()))
    return decision


def _written_decision(stage: Stage) -> Decision | None:
    text = stage.client.get_run(stage.run_id).data.tags.get(DECISION)
    return Decision(**json.loads(text)) if text else None


def _log_plot(stage: Stage, scored: DataFrame, classes: list[Any]) -> None:
    if classes:
        counts = scored.groupBy(LABEL, PREDICTION).count().collect()
        cells = {(int(row[LABEL]), int(row[PREDICTION])): row["count"] for row in counts}
        stage.client.log_figure(stage.run_id, plot_confusion(cells, classes), "confusion_matrix.png")
    else:
        pairs = scored.orderBy(ROW_ID).select(LABEL, PREDICTION).limit(_PLOTTED_ROWS).collect()
        truth, predicted = [row[LABEL] for row in pairs], [row[PREDICTION] for row in pairs]
        figure = plot_predictions(truth, predicted, stage.experiment.data.target)
        stage.client.log_figure(stage.run_id, figure, "predictions.png")
