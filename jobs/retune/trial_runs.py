"""Trials as MLflow runs: the only memory of a search, each written in three calls."""

from __future__ import annotations

import json
import math
import time
import uuid

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from retune import run_tree
from retune.errors import Superseded
from retune.handoff import Stage
from retune.run_tree import children, kill_trials
from retune.search.trial import Trial
from retune.space import Setting, flatten

NUMBER = "retune.trial"
SUSPECT = "retune.suspect"  # of blocking Python, together with others
SETTING = "retune.setting"
BEST = "retune.best"
KEPT_OUT = "retune.kept_out"
BASIS = "retune.basis"
SPACE = "retune.space"
LAYOUT = "retune.layout"
LOSS = "search_loss"  # `loss` alone is what Keras and MLflow call that of a fit
DURATION = "duration_s"
_CHECKED_EVERY_S = 1.0
_LONGEST_VALUE = 5000  # MLflow's bound for tags and parameters is 6,000 characters at least


class TrialRuns:
    """Keeps the trials of one tune run; implements `retune.search.trial.Tracker`."""

    def __init__(self, stage: Stage, shared: bool = False) -> None:
        """See `Tracker`; `shared` says that a function of the user's may have logged into a trial's run as well."""
        self._stage, self._shared = stage, shared
        self._client: MlflowClient = stage.client
        self._checked_at = -math.inf

    def start(self, number: int, setting: Setting) -> str:
        """Open a trial's run; its setting is there to see from the first moment."""
        tags = {
            run_tree.STAGE: "trial",
            run_tree.DAG_RUN: self._stage.run.data.tags[run_tree.DAG_RUN],
            run_tree.PARENT: self._stage.run_id,
            run_tree.ATTEMPT: str(self._stage.attempt),
            NUMBER: str(number),
            SETTING: json.dumps(setting),
        }
        run = self._client.create_run(self._stage.experiment_id, tags=tags, run_name=f"trial {number}")
        return str(run.info.run_id)

    def end(self, trial: Trial) -> None:
        """Log parameters, metrics and how it ended, then end the run.

        Raises:
            Superseded: A newer attempt has taken over, and the trial is its to try: this one is KILLED.
        """
        self._ensure_current(trial)
        now = int(time.time() * 1000)
        # A database store has no room for infinities; the error text tells of them.
        values = {name: value for name, value in trial.metrics.items() if math.isfinite(value)}
        values[DURATION] = trial.duration_s
        if trial.loss is not None:
            values[LOSS] = trial.loss
        self._client.log_batch(
            trial.run_id,
            metrics=[Metric(name, value, now, 0) for name, value in values.items()],
            params=self._parameters_of(trial),
            tags=[
                RunTag(name, text[:_LONGEST_VALUE])
                for name, text in ((run_tree.ERROR, trial.error), (KEPT_OUT, trial.kept_out))
                if text
            ],
        )
        self._client.set_terminated(trial.run_id, "FAILED" if trial.error else "FINISHED")

    def _ensure_current(self, trial: Trial) -> None:
        """Look whether a newer attempt is there, but at most once a second: short trials come faster than attempts."""
        if time.monotonic() - self._checked_at < _CHECKED_EVERY_S:
            return
        try:
            self._stage.ensure_current()
        except Superseded:
            self._client.set_terminated(trial.run_id, "KILLED")
            raise
        self._checked_at = time.monotonic()

    def _parameters_of(self, trial: Trial) -> list[Param]:
        """Return the setting as parameters; a name that is taken, by another value, gets a suffix of its own."""
        known = self._client.get_run(trial.run_id).data.params if self._shared else {}
        values = {name: str(value)[:_LONGEST_VALUE] for name, value in flatten(trial.setting).items()}
        return [
            Param(name if known.get(name, value) == value else f"{name}_{uuid.uuid4().hex}", value)
            for name, value in values.items()
        ]

    def report(self, step: int, progress: dict[str, float]) -> None:
        """Log progress as metrics of the tune run, by step, so that MLflow draws the search while it runs."""
        now = int(time.time() * 1000)
        self._client.log_batch(
            self._stage.run_id, metrics=[Metric(name, value, now, step) for name, value in progress.items()]
        )

    def mark_best(self, best: Trial) -> None:
        """Tag the best trial's run, and only that."""
        for run in children(self._client, self._stage.run, "trial"):
            if BEST in run.data.tags and run.info.run_id != best.run_id:
                self._client.delete_tag(run.info.run_id, BEST)
        self._client.set_tag(best.run_id, BEST, "true")

    def set_aside(self, trials: list[Trial]) -> None:
        """Take trials out of the search for good; their runs stay to be read."""
        for trial in trials:
            self._client.set_tag(trial.run_id, run_tree.SUPERSEDED_BY, self._stage.run_id)

    def history(self) -> list[Trial]:
        """Return the trials of earlier attempts by number; one cut off in the middle is marked KILLED and left out."""
        self.kill_unfinished()
        ended = {trial.number: trial for trial in read_trials(self._client, self._stage.run)}
        return [ended[number] for number in sorted(ended)]

    def suspects(self) -> frozenset[int]:
        """Return the numbers of trials that ran together when one of them, nobody knows which, blocked Python."""
        runs = children(self._client, self._stage.run, "trial")
        return frozenset(int(run.data.tags[NUMBER]) for run in runs if SUSPECT in run.data.tags)

    def kill_unfinished(self) -> None:
        """Mark KILLED what no process works on any more."""
        kill_trials(self._client, self._stage.run)


def read_trials(client: MlflowClient, tune: Run) -> list[Trial]:
    """Return the trials below a tune run that ended, FINISHED or FAILED, in the order of their start."""
    return [_read_trial(run) for run in children(client, tune, "trial") if run.info.status in ("FINISHED", "FAILED")]


def _read_trial(run: Run) -> Trial:
    tags, metrics = run.data.tags, run.data.metrics
    return Trial(
        number=int(tags[NUMBER]),
        setting=json.loads(tags[SETTING]),
        run_id=run.info.run_id,
        loss=metrics.get(LOSS),
        metrics={name: value for name, value in metrics.items() if name not in (LOSS, DURATION)},
        duration_s=metrics.get(DURATION, 0.0),
        started_at=run.info.start_time / 1000,
        error=tags.get(run_tree.ERROR),
        kept_out=tags.get(KEPT_OUT),
    )
