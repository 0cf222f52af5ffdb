"""Retrain: fit the best and the untuned setting on train + validation, and register the best as challenger."""

from __future__ import annotations

import json
import logging

from retune.handoff import Stage
from retune.registry import register_challenger
from retune.space import flatten
from retune.spark import load_pipeline, spark_session
from retune.stages.fitting import laid_out, read_split
from retune.stages.ingest import PROFILE
from retune.stages.whole_model import log_model, whole_model
from retune.trainers import load_trainer

log = logging.getLogger(__name__)


def run(stage: Stage) -> None:
    """Publish `challenger` (version in the registry), `challenger_model` and `untuned_model` (URIs)."""
    experiment, profile = stage.experiment, stage.artifact("ingest", PROFILE)
    trainer, classes = load_trainer(experiment.model.trainer), profile["classes"]
    best = {**experiment.model.fixed, **flatten(json.loads(stage.output("tune", "best_setting")))}
    if rounds := int(stage.output("tune", "best_rounds")):
        best[str(trainer.rounds_parameter)] = rounds
    with spark_session(f"{experiment.name} retrain") as spark:
        trainer.require(spark)
        features = load_pipeline(stage.output("featurize", "features"))
        rows = read_split(spark, stage, "train").unionByName(read_split(spark, stage, "validation"))
        with laid_out(rows, trainer) as fit_rows:
            log.info("fitting the best setting: %s", best)
            tuned = trainer.fit(fit_rows, best, experiment.problem, len(classes), experiment.search.seed)
            log.info("fitting the untuned setting: %s", experiment.untuned_parameters)
            untuned = trainer.fit(
                fit_rows, experiment.untuned_parameters, experiment.problem, len(classes), experiment.search.seed
            )
            stage.log_metrics({"fit_rows": fit_rows.count()})
        untuned_uri = f"{stage.folder}/untuned"
        whole_model(features, untuned, classes).write().save(untuned_uri)
        model_uri = log_model(stage, spark, whole_model(features, tuned, classes), trainer, profile)
    stage.ensure_current()
    challenger = register_challenger(stage.client, experiment.dag_id, model_uri, stage.run_id)
    log.info("registered %s version %s as challenger", experiment.dag_id, challenger)
    stage.publish(challenger=challenger, challenger_model=model_uri, untuned_model=untuned_uri)
