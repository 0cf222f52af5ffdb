"""When a search has had enough."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retune.errors import TooManyFailedTrials
from retune.metrics import Metric
from retune.search.trial import Trial, best_of

StopFunction = Callable[[Sequence[Trial]], bool]
"""Tells from all trials so far whether to stop."""


@dataclass(frozen=True)
class Budget:
    """The rules by which a search ends; trials of earlier attempts count like its own.

    Attributes:
        max_trials: Trials in all, failed ones included.
        timeout_s: Seconds of search after which no new trial starts.
        loss_threshold: A value of the metric that is good enough.
        patience: So many trials in a row without progress.
        minimum_gain: What counts as progress, in units of the metric.
        stop_function: A rule of the user's own, and its name.
        max_failed_trials: So many failed trials end the search as hopeless.
    """

    max_trials: int
    timeout_s: float | None = None
    loss_threshold: float | None = None
    patience: int | None = None
    minimum_gain: float = 0.0
    stop_function: tuple[str, StopFunction] | None = None
    max_failed_trials: int | None = None

    def used_up(self, trials: Sequence[Trial], metric: Metric, elapsed_s: float, running: int) -> str | None:
        """Return why no further trial may start beside those that are running, or None."""
        if self._too_many_failed(trials):
            return f"max_failed_trials = {self.max_failed_trials} reached"
        if len(trials) + running >= self.max_trials:
            return f"max_trials = {self.max_trials} reached"
        if self.timed_out(elapsed_s):
            return f"timeout = {self.timeout_s:g} s reached after {len(trials)} trials"
        enough = math.inf if self.loss_threshold is None else -metric.loss(self.loss_threshold)
        if (best := best_of(trials)) and best.loss is not None and -best.loss >= enough:
            return f"loss_threshold = {self.loss_threshold:g} reached by trial {best.number}"
        if trials_without_progress(trials, self.minimum_gain) >= (self.patience or math.inf):
            return f"early_stop: no progress in {self.patience} trials"
        if self.stop_function and trials and self.stop_function[1](trials):
            return f"early_stop: {self.stop_function[0]} said so"
        return None

    def timed_out(self, elapsed_s: float) -> bool:
        """Return whether the time is up."""
        return self.timeout_s is not None and elapsed_s >= self.timeout_s

    def time_left_s(self, trials: Sequence[Trial], elapsed_s: float) -> float:
        """Return about how many seconds of search are still to come."""
        by_count = (self.max_trials - len(trials)) * elapsed_s / len(trials) if trials else 0.0
        return max(0.0, by_count if self.timeout_s is None else min(by_count, self.timeout_s - elapsed_s))

    def check_failed(self, trials: Sequence[Trial]) -> None:
        """Check that the search is not hopeless.

        Raises:
            TooManyFailedTrials: It is; the message has the reasons.
        """
        errors = [trial.error for trial in trials if trial.error]
        if self._too_many_failed(trials):
            raise TooManyFailedTrials(
                f"{len(errors)} of {len(trials)} trials failed, and max_failed_trials = {self.max_failed_trials}: "
                + collect_reasons(errors)
            )

    def _too_many_failed(self, trials: Sequence[Trial]) -> bool:
        most = math.inf if self.max_failed_trials is None else self.max_failed_trials
        return sum(trial.error is not None for trial in trials) >= most


def spent_s(trials: Sequence[Trial]) -> float:
    """Return the seconds in which at least one trial ran; a trial that does not tell its start stands alone."""
    alone = sum(trial.duration_s for trial in trials if trial.started_at is None)
    spans = sorted((t.started_at, t.started_at + t.duration_s) for t in trials if t.started_at is not None)
    together, covered = 0.0, -math.inf
    for start, end in spans:
        together += max(0.0, end - max(start, covered))
        covered = max(covered, end)
    return alone + together


def trials_without_progress(trials: Sequence[Trial], minimum_gain: float) -> int:
    """Return how many trials there have been since the last that was better than all before by the minimum gain.

    As `hyperopt.early_stop.no_progress_loss` has it, but with an absolute gain; trials without a loss count.
    """
    best, since = None, 0
    for trial in trials:
        since += 1
        if trial.loss is not None and (best is None or trial.loss < best - minimum_gain):
            best, since = trial.loss, 0
    return since


def collect_reasons(errors: Sequence[str]) -> str:
    """Return the first lines of error texts with how often each came, the most frequent first."""
    counted = Counter(error.splitlines()[0][:300] for error in errors)
    return "; ".join(f"{count} × {reason}" for reason, count in counted.most_common(5))
