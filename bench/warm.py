"""A tune stage held open in this very process: its session warm, its rows laid out, searches run in it at will."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import pandas as pd
from place import Place
from pyspark import SparkContext
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import DataFrame, SparkSession
from stages import lease_tune

from retune.data.splits import LABEL, ROW_ID, SPLIT
from retune.features.base import FEATURES
from retune.handoff import Stage, open_stage
from retune.placements import load_placement
from retune.placements.base import Trials
from retune.placements.cluster import _held_rows, _plan_trials
from retune.placements.cluster_trial import FitAndScore, Rows
from retune.placements.shared_fits import follow_fits
from retune.run_tree import end_stage
from retune.search.engine import build_engine
from retune.search.loop import run_search
from retune.search.plan import Result
from retune.search.trial import Tracker, Trial
from retune.space import Setting
from retune.spark import spark_session
from retune.stages.tune import _build_plan, _watched
from retune.stages.warm_start import EarlierTrials
from retune.tracking import connect
from retune.trainers import load_trainer

_WARM_UP = 4


class NoTracker:
    """Keeps nothing: the search's result has all trials."""

    def start(self, number: int, setting: Setting) -> str:
        return str(number)

    def end(self, trial: Trial) -> None:
        """Ignore it."""

    def report(self, step: int, progress: dict[str, float]) -> None:
        """Ignore it."""


@dataclass(frozen=True)
class Tuning:
    """A tune stage whose rows are held.

    Attributes:
        spark: The session.
        stage: The stage, as the job's own.
        rows: Laid out as the stage lays them out; only in the placement `cluster`.
        trainer: The experiment's.
        tasks: What runs trials in the placement `task`.
    """

    spark: SparkSession
    stage: Stage
    rows: Rows | None
    trainer: Any
    tasks: Trials | None = None

    @property
    def slots(self) -> int:
        """How many trials can run at once in tasks."""
        return self.tasks.parallel if self.tasks else 1

    def search(self, trials: int, tracker: Tracker | None = None, **changes: object) -> tuple[Result, float]:
        """Search as the stage does, and return the result and the seconds.

        Args:
            trials: How many.
            tracker: Where they are kept; by default nowhere.
            changes: Of the experiment's section `search`.
        """
        section = {**self.stage.experiment.search.model_dump(mode="json"), **changes, "max_trials": trials}
        search = type(self.stage.experiment.search).model_validate(section)
        stage = replace(self.stage, experiment=self.stage.experiment.model_copy(update={"search": search}))
        open_trials = self._trials(stage)
        objective = _watched(open_trials, self.spark, search.trial_timeout)
        plan = _build_plan(stage, EarlierTrials(), open_trials.parallel)
        started = time.perf_counter()
        result = run_search(build_engine(search), objective, tracker or NoTracker(), plan)
        seconds = time.perf_counter() - started
        failed = [trial.error for trial in result.trials if trial.error]
        assert not failed, failed[0]
        return result, seconds

    def _trials(self, stage: Stage) -> Trials:
        if self.tasks:
            return replace(self.tasks, parallel=stage.experiment.search.parallel_trials or self.tasks.parallel)
        parallel, parameters = _plan_trials(self.spark, stage, self.trainer, self.rows.fitted)
        return Trials(FitAndScore(stage.experiment, self.trainer, self.rows, parameters), parallel, {})


def as_spark_rows(spark: SparkSession, frame: pd.DataFrame, target: str) -> DataFrame:
    """Return rows that have a split already as featurize would write them; all other columns are numeric features."""
    features = [name for name in frame.columns if name not in (target, SPLIT)]
    frame = frame.rename(columns={target: LABEL}).assign(**{ROW_ID: range(len(frame))})
    return VectorAssembler(inputCols=features, outputCol=FEATURES).transform(spark.createDataFrame(frame))


@contextmanager
def warm_session(place: Place, master: str = "local[*]") -> Iterator[SparkSession]:
    """Start Spark as a job does, by default on all cores of one JVM, which ends with it."""
    with mock.patch.dict(os.environ, {**place.env, "PYSPARK_SUBMIT_ARGS": f"--master {master} pyspark-shell"}):
        try:
            with spark_session("bench") as spark:
                spark.sparkContext.setLogLevel("ERROR")
                yield spark
        finally:
            gateway = SparkContext._gateway
            gateway.shutdown()
            gateway.proc.stdin.close()  # the JVM ends with it
            gateway.proc.wait()
            SparkContext._gateway = SparkContext._jvm = None


@contextmanager
def tuning(place: Place, featurized: str, master: str = "local[*]") -> Iterator[Tuning]:
    """Open the tune stage after a featurize run, as its job does, and try some settings so that the JVM is warm."""
    with warm_session(place, master) as spark, open_tuning(place, spark, featurized) as held:
        held.search(_WARM_UP)
        yield held


@contextmanager
def open_tuning(place: Place, spark: SparkSession, featurized: str) -> Iterator[Tuning]:
    """Open a tune stage of its own in a session that may have seen others."""
    client, lease = connect(), lease_tune(place, featurized)
    stage = open_stage(client, "tune", lease)
    trainer = load_trainer(stage.experiment.model.trainer)
    stage = replace(stage, experiment=follow_fits(stage.experiment, trainer))
    with ExitStack() as stack:
        if trainer.placement == "task":
            tasks = stack.enter_context(load_placement("task").trials(spark, stage))
            yield Tuning(spark, stage, None, trainer, tasks)
        else:
            yield Tuning(spark, stage, stack.enter_context(_held_rows(spark, stage, trainer)), trainer)
    end_stage(client, lease)
