"""Retrain: fit the best and the untuned setting on train + validation, and register the best as challenger."""

from __future__ import annotations

import csv
import io
import json
import logging

from retune.handoff import IMPORTANCES, Stage
from retune.placements import load_placement
from retune.registry import register_challenger, version_of_run
from retune.space import flatten
from retune.spark import spark_session
from retune.trainers import load_trainer

log = logging.getLogger(__name__)
_SHOWN = 5


def run(stage: Stage) -> None:
    """Publish `challenger_model` and `untuned_model` (URIs) and, if registered, `challenger` (its version)."""
    experiment = stage.experiment
    trainer = load_trainer(experiment.model.trainer)
    best = {**experiment.model.fixed, **flatten(json.loads(stage.output("tune", "best_setting")))}
    untuned = dict(experiment.untuned_parameters)
    for parameters, output in ((best, "best_rounds"), (untuned, "untuned_rounds")):
        if rounds := int(stage.output("tune", output)):
            parameters[str(trainer.rounds_parameter)] = rounds
    with spark_session(f"{experiment.name} retrain") as spark:
        trainer.require(spark)
        with load_placement(trainer.placement).fitting(spark, stage) as fitting:
            stage.log_metrics({"fit_rows": fitting.rows})
            log.info("fitting the best setting: %s", best)
            challenger = fitting.fit(best)
            _log_importances(stage, fitting.importances(challenger))
            log.info("fitting the untuned setting: %s", untuned)
            untuned_uri = fitting.save(fitting.fit(untuned), "untuned")
            if experiment.search.log_models == "none":
                stage.publish(challenger_model=fitting.save(challenger, "challenger"), untuned_model=untuned_uri)
                return
            # An earlier attempt may have come so far.
            registered = version_of_run(stage.client, experiment.dag_id, stage.run_id)
            model_uri = str(registered.source) if registered else fitting.log(challenger, stage.run_id)
    stage.ensure_current()
    version = register_challenger(stage.client, experiment.dag_id, model_uri, stage.run_id)
    log.info("registered %s version %s as challenger", experiment.dag_id, version)
    stage.publish(challenger=version, challenger_model=model_uri, untuned_model=untuned_uri)


def _log_importances(stage: Stage, importances: dict[str, float]) -> None:
    """Log the challenger's importances as a table, and the first of them as a tag, for the summary."""
    found = sorted(((name, value) for name, value in importances.items() if value), key=lambda each: -each[1])
    if not found:
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("feature", "importance"), *found])
    stage.client.log_text(stage.run_id, text.getvalue(), "importances.csv")
    stage.client.set_tag(stage.run_id, IMPORTANCES, json.dumps(dict(found[:_SHOWN]), ensure_ascii=False))
