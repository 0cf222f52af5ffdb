"""Retrain: fit the best and the untuned setting on train + validation, and register the best as challenger."""

from __future__ import annotations

import json
import logging

from retune.handoff import Stage
from retune.placements import load_placement
from retune.registry import register_challenger
from retune.space import flatten
from retune.spark import spark_session
from retune.trainers import load_trainer

log = logging.getLogger(__name__)


def run(stage: Stage) -> None:
    """Publish `challenger` (version in the registry), `challenger_model` and `untuned_model` (URIs)."""
    experiment = stage.experiment
    trainer = load_trainer(experiment.model.trainer)
    best = {**experiment.model.fixed, **flatten(json.loads(stage.output("tune", "best_setting")))}
    if rounds := int(stage.output("tune", "best_rounds")):
        best[str(trainer.rounds_parameter)] = rounds
    with spark_session(f"{experiment.name} retrain") as spark:
        trainer.require(spark)
        with load_placement(trainer.placement).fitting(spark, stage) as fitting:
            stage.log_metrics({"fit_rows": fitting.rows})
            log.info("fitting the best setting: %s", best)
            tuned = fitting.fit(best)
            log.info("fitting the untuned setting: %s", experiment.untuned_parameters)
            untuned_uri = fitting.save(fitting.fit(experiment.untuned_parameters))
            model_uri = fitting.log(tuned)
    stage.ensure_current()
    challenger = register_challenger(stage.client, experiment.dag_id, model_uri, stage.run_id)
    log.info("registered %s version %s as challenger", experiment.dag_id, challenger)
    stage.publish(challenger=challenger, challenger_model=model_uri, untuned_model=untuned_uri)
