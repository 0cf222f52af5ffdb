"""The search loop: ask the engine, try the setting, tell the engine; nothing here knows Spark or MLflow."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from retune.errors import AllTrialsFailed, RetuneError, root_cause
from retune.metrics import Metric
from retune.search.engine import Engine
from retune.space import Setting

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """One setting, fitted and scored.

    Attributes:
        number: Counts from 0 within the search.
        setting: What was tried.
        run_id: Its run in the tracker.
        loss: Lower is better; None when the trial failed.
        metrics: All that was measured, such as `validation_r2`.
        duration_s: Fit and scoring together.
        error: Why it failed; None when it did not.
    """

    number: int
    setting: Setting
    run_id: str
    loss: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    duration_s: float = 0.0
    error: str | None = None


class Tracker(Protocol):
    """Where trials are kept; the only memory of a search."""

    def start(self, number: int, setting: Setting) -> str:
        """Open the run of a trial and return its id."""
        ...

    def end(self, trial: Trial) -> None:
        """Write down how a trial ended."""
        ...


Objective = Callable[[Setting], dict[str, float]]
"""Fits and scores one setting; returns metrics, among them `validation_<search metric>`."""


@dataclass(frozen=True)
class Budget:
    """When a search has had enough.

    Attributes:
        max_trials: Trials in all, those of earlier attempts and failed ones included.
        timeout_s: Seconds spent on trials in all, after which no new one starts; None for no limit.
    """

    max_trials: int
    timeout_s: float | None = None

    def used_up(self, trials: Sequence[Trial]) -> str | None:
        """Return why no further trial may start, or None."""
        if len(trials) >= self.max_trials:
            return f"max_trials = {self.max_trials} reached"
        spent_s = sum(trial.duration_s for trial in trials)
        if self.timeout_s is not None and spent_s >= self.timeout_s:
            return f"timeout = {self.timeout_s:g} s reached after {len(trials)} trials"
        return None


@dataclass(frozen=True)
class Result:
    """What a search found: the best trial, all trials in order, and why it stopped."""

    best: Trial
    trials: list[Trial]
    stop_reason: str


def run_search(
    engine: Engine,
    objective: Objective,
    tracker: Tracker,
    metric: Metric,
    budget: Budget,
    history: Sequence[Trial] = (),
) -> Result:
    """Spend the budget and return the best trial.

    Args:
        engine: Proposes the settings.
        objective: Fits and scores one. An ordinary exception fails the trial; a `RetuneError` ends the search.
        tracker: Is told of each trial as it starts and ends.
        metric: What is optimised, on the validation rows.
        budget: When to stop; the history counts.
        history: Trials of earlier attempts.

    Raises:
        AllTrialsFailed: Not one trial succeeded; the message has the first error.
    """
    trials = list(history)
    for trial in trials:
        engine.tell(trial.number, trial.setting, trial.loss)
    if trials:
        log.info("resuming after %d trials", len(trials))
    while (reason := budget.used_up(trials)) is None:
        trial = _try(_free_number(trials), engine, objective, tracker, metric)
        tracker.end(trial)
        engine.tell(trial.number, trial.setting, trial.loss)
        trials.append(trial)
        _log_progress(trial, best_of(trials), metric, budget)
    log.info("search stopped: %s", reason)
    best = best_of(trials)
    if best is None:
        first = next((trial.error for trial in trials if trial.error), "no trial was started")
        raise AllTrialsFailed(f"all {len(trials)} trials failed; the first error was: {first}")
    return Result(best, trials, reason)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial of least loss, the earliest of equals; None where none succeeded."""
    finished = [trial for trial in trials if trial.loss is not None]
    return min(finished, key=lambda trial: (trial.loss, trial.number)) if finished else None


def _free_number(trials: Sequence[Trial]) -> int:
    """Return the least number not taken: that of a trial cut off in the middle, which is proposed once more."""
    taken = {trial.number for trial in trials}
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _try(number: int, engine: Engine, objective: Objective, tracker: Tracker, metric: Metric) -> Trial:
    setting = engine.propose(number)
    run_id = tracker.start(number, setting)
    started = time.monotonic()
    metrics: dict[str, float] = {}
    loss, error = None, None
    try:
        metrics = objective(setting)
        loss = metric.loss(metrics[f"validation_{metric.name}"])
        if not math.isfinite(loss):
            loss, error = (
                None,
                f"validation_{metric.name} is {metrics[f'validation_{metric.name}']}, not a finite number",
            )
    except RetuneError:
        raise
    except Exception as failure:  # whatever a fit raises fails its trial, never the search
        log.debug("trial %d failed", number, exc_info=True)
        error = f"{type(failure).__name__}: {root_cause(failure)}"
    return Trial(number, setting, run_id, loss, metrics, time.monotonic() - started, error)


def _log_progress(trial: Trial, best: Trial | None, metric: Metric, budget: Budget) -> None:
    name = f"validation_{metric.name}"
    if trial.error is not None:
        outcome = f"FAILED: {trial.error.splitlines()[0][:300]}"
    else:
        outcome = f"{name} {trial.metrics[name]:.6g}"
    so_far = f"best {best.metrics[name]:.6g} (trial {best.number})" if best else "none succeeded yet"
    log.info(
        "%d/%d  trial %d  %s  %s  in %.1f s  %s",
        trial.number + 1, budget.max_trials, trial.number, outcome, so_far, trial.duration_s, trial.setting,
    )  # fmt: skip
