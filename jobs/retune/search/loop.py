"""The search loop: ask the engine, try the setting, tell the engine; nothing here knows Spark or MLflow."""

from __future__ import annotations

import logging
import math
import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from retune.errors import AllTrialsFailed, RetuneError, TrialHung, root_cause
from retune.metrics import Metric
from retune.search.engine import Engine
from retune.search.failures import is_infrastructure
from retune.search.stopping import Budget, collect_reasons, spent_s
from retune.search.trial import Attempt, Objective, Pruned, Tracker, Trial, best_of
from retune.space import Setting

log = logging.getLogger(__name__)
_RELATIONS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Plan:
    """What a search is to do.

    Attributes:
        metric: What is optimised, on rows that no trial is fitted to.
        budget: When to stop.
        points: Settings that are tried first, as trials 0, 1, ….
        queue: How many settings are proposed at once, from the same history.
        infra_retries: Further tries of a setting that the cluster let down.
        constraints: (measure, `<=` or `>=`, bound): what the best trial must keep.
    """

    metric: Metric
    budget: Budget
    points: Sequence[Setting] = ()
    queue: int = 1
    infra_retries: int = 0
    constraints: Sequence[tuple[str, str, float]] = ()

    def broken_constraint(self, metrics: dict[str, float]) -> str | None:
        """Return which constraint what was measured breaks, or None."""
        for measure, relation, bound in self.constraints:
            if not _RELATIONS[relation](metrics.get(measure, math.nan), bound):
                return f"{measure} is {metrics.get(measure, math.nan):.6g}, not {relation} {bound:g}"
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
    plan: Plan,
    history: Sequence[Trial] = (),
    warm: Sequence[Trial] = (),
) -> Result:
    """Spend the budget and return the best trial.

    Args:
        engine: Proposes the settings.
        objective: Fits and scores one. An ordinary exception fails the trial; a `RetuneError` ends the search.
        tracker: Is told of each trial as it starts and ends.
        plan: What to do.
        history: Trials of earlier attempts; they count.
        warm: Trials of earlier searches, numbered below 0; the engine learns from them and goes on with the proposals
            that come after as many, the budget does not count them.

    Raises:
        AllTrialsFailed: There is no best trial; the message has the first error.
        TooManyFailedTrials: More failed than the budget allows.
        TrialHung: The process must end, for a trial in it will not.
    """
    for trial in warm:
        engine.tell(trial.number, trial.setting, trial.loss)
    search = _Search(engine, objective, tracker, plan, history, after=len(warm))
    if history:
        log.info("resuming after %d trials", len(history))
    while (reason := plan.budget.used_up(search.trials, plan.metric)) is None:
        search.try_next()
    log.info("search stopped: %s", reason)
    best = best_of(search.trials)
    if best is None:
        raise AllTrialsFailed(_why_none(search.trials))
    return Result(best, search.trials, reason)


class _Search:
    """One search under way.

    Settings are proposed `queue` at a time: those of trials k·queue … k·queue + queue - 1 from the trials before
    k·queue, whenever they ended, so that a resumed search proposes what an uninterrupted one would have.
    """

    def __init__(
        self,
        engine: Engine,
        objective: Objective,
        tracker: Tracker,
        plan: Plan,
        history: Sequence[Trial],
        after: int,
    ) -> None:
        self._after = after  # the engine's own numbers are higher by so many
        self._engine, self._objective, self._tracker, self._plan = engine, objective, tracker, plan
        self._ended = {trial.number: trial for trial in history}
        self._told_below = 0
        self._proposed: dict[int, Setting] = {}

    @property
    def trials(self) -> list[Trial]:
        """All trials that ended, by number."""
        return [self._ended[number] for number in sorted(self._ended)]

    def try_next(self) -> None:
        """Try the next setting: that of a trial cut off in the middle, before any later one."""
        number = self._next_number()
        self._advance(number)
        trial = self._try(number, self._proposed[number])
        self._ended[number] = trial
        self._report(trial)

    def _next_number(self) -> int:
        return next(number for number in range(len(self._ended) + 1) if number not in self._ended)

    def _advance(self, number: int) -> None:
        """Propose and tell, batch after batch, until `number` is proposed."""
        while number not in self._proposed:
            self._tell_below(len(self._proposed))
            first = len(self._proposed)
            for each in range(first, first + self._plan.queue):
                given = self._plan.points[each] if each < len(self._plan.points) else None
                self._proposed[each] = given if given is not None else self._engine.propose(self._after + each)

    def _tell_below(self, number: int) -> None:
        for each in range(self._told_below, number):
            trial = self._ended[each]
            self._engine.tell(self._after + each, trial.setting, trial.loss)
        self._told_below = number

    def _try(self, number: int, setting: Setting) -> Trial:
        trial = Trial(number, setting, self._tracker.start(number, setting), None)
        started = time.monotonic()
        try:
            metrics = self._measure(number, setting)
            trial = self._judge(trial, metrics)
        except Pruned as pruned:
            trial = replace(trial, metrics=pruned.metrics, kept_out=f"pruned: {pruned}")
        except TrialHung as hung:
            self._tracker.end(replace(trial, error=str(hung), duration_s=time.monotonic() - started))
            raise
        except RetuneError:
            raise
        except Exception as failure:  # whatever a fit raises fails its trial, never the search
            log.debug("trial %d failed", number, exc_info=True)
            trial = replace(trial, error=f"{type(failure).__name__}: {root_cause(failure)}")
        trial = replace(trial, duration_s=time.monotonic() - started)
        self._tracker.end(trial)
        return trial

    def _measure(self, number: int, setting: Setting) -> dict[str, float]:
        """Try a setting, and again where the cluster is to blame."""
        for rung in range(self._plan.infra_retries):
            try:
                return self._objective(setting, Attempt(rung, self.trials))
            except Exception as error:
                if isinstance(error, (RetuneError, Pruned)) or not is_infrastructure(error):
                    raise
                text = root_cause(error).partition("\n")[0][:300]
                log.warning("trial %d: trouble in the infrastructure, trying again: %s", number, text)
        return self._objective(setting, Attempt(self._plan.infra_retries, self.trials))

    def _judge(self, trial: Trial, metrics: dict[str, float]) -> Trial:
        name = f"validation_{self._plan.metric.name}"
        trial = replace(trial, metrics=metrics)
        if not math.isfinite(metrics[name]):
            return replace(trial, error=f"{name} is {metrics[name]}, not a finite number")
        if broken := self._plan.broken_constraint(metrics):
            return replace(trial, kept_out=broken)
        return replace(trial, loss=self._plan.metric.loss(metrics[name]))

    def _report(self, trial: Trial) -> None:
        trials, budget, name = self.trials, self._plan.budget, f"validation_{self._plan.metric.name}"
        best = best_of(trials)
        progress = {"trials": len(trials), "elapsed_s": spent_s(trials), "time_left_s": budget.time_left_s(trials)}
        if trial.loss is not None:
            progress["trial_" + name] = trial.metrics[name]
        if best:
            progress["best_" + name] = best.metrics[name]
        self._tracker.report(len(trials), progress)
        if trial.error is not None:
            outcome = f"FAILED: {trial.error.splitlines()[0][:300]}"
        else:
            outcome = trial.kept_out or f"{name} {trial.metrics[name]:.6g}"
        so_far = f"best {best.metrics[name]:.6g} (trial {best.number})" if best else "none succeeded yet"
        log.info(
            "%d/%d  trial %d  %s  %s  in %.1f s  elapsed %s  left %s  %s",
            len(trials), budget.max_trials, trial.number, outcome, so_far, trial.duration_s,
            _clock(progress["elapsed_s"]), _clock(progress["time_left_s"]), trial.setting,
        )  # fmt: skip


def _why_none(trials: Sequence[Trial]) -> str:
    errors = [trial.error for trial in trials if trial.error]
    if len(errors) == len(trials):
        first = errors[0] if errors else "no trial was started"
        return f"all {len(trials)} trials failed; the first error was: {first}"
    reasons = collect_reasons([trial.kept_out or trial.error or "" for trial in trials])
    return f"none of {len(trials)} trials can be the best: {reasons}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
