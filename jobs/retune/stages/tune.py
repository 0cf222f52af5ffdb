"""Tune: search for the best setting on train rows, scored on validation rows."""

from __future__ import annotations

import json
import logging
import time

from retune.evaluation import score_splits
from retune.handoff import Stage
from retune.metrics import METRICS
from retune.plots import plot_search
from retune.search.engine import build_engine
from retune.search.loop import Budget, run_search
from retune.space import Setting, flatten
from retune.spark import losing_spark_told_apart, spark_session
from retune.stages.fitting import laid_out, read_split
from retune.stages.ingest import PROFILE
from retune.trainers import load_trainer
from retune.trial_runs import TrialRuns

log = logging.getLogger(__name__)


def run(stage: Stage) -> None:
    """Publish `best_setting` (JSON) and `best_trial` (its run id)."""
    experiment = stage.experiment
    search, classes = experiment.search, len(stage.artifact("ingest", PROFILE)["classes"])
    trainer, metric = load_trainer(experiment.model.trainer), METRICS[search.metric]
    tracker = TrialRuns(stage)
    history = tracker.history()
    if history and all(trial.loss is None for trial in history):
        log.info("all %d trials of earlier attempts failed; starting anew", len(history))
        tracker.set_aside(history)
        history = []
    with spark_session(f"{experiment.name} tune") as spark:
        trainer.require(spark)
        train, validation = read_split(spark, stage, "train"), read_split(spark, stage, "validation")
        with laid_out(train, trainer) as fit_rows, laid_out(validation, trainer) as validation_rows:
            score_rows = fit_rows.unionByName(validation_rows)

            def objective(setting: Setting) -> dict[str, float]:
                parameters = {**experiment.model.fixed, **flatten(setting)}
                with losing_spark_told_apart(spark):
                    model = trainer.fit(fit_rows, parameters, experiment.problem, classes, search.seed)
                    return score_splits(model.transform(score_rows), experiment.problem, classes, search.metric)

            budget = Budget(search.max_trials, search.timeout)
            started = time.monotonic()
            result = run_search(build_engine(search), objective, tracker, metric, budget, history)
            search_s = time.monotonic() - started
            sizes = {
                "fit_rows": fit_rows.count(),
                "validation_rows": validation_rows.count(),
                "fit_partitions": fit_rows.rdd.getNumPartitions(),
            }
    stage.ensure_current()
    tracker.mark_best(result.best)
    log.info("best: trial %d %s", result.best.number, result.best.setting)
    failed = sum(trial.loss is None for trial in result.trials)
    stage.log_metrics(
        {**result.best.metrics, **sizes, "search_s": search_s, "trials": len(result.trials), "failed_trials": failed}
    )
    stage.client.set_tag(stage.run_id, "retune.stop_reason", result.stop_reason)
    stage.client.log_figure(stage.run_id, plot_search(result.trials, metric), "search.png")
    stage.publish(best_setting=json.dumps(result.best.setting), best_trial=result.best.run_id)
