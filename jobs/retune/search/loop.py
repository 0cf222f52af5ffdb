"""The search loop: ask the engine, try the setting, tell the engine; nothing here knows Spark or MLflow."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, TypeVar

from retune.errors import AllTrialsFailed, BadInput, RetuneError, TrialHung, root_cause
from retune.search.engine import Engine
from retune.search.failures import is_infrastructure
from retune.search.plan import Plan, Result, broken_constraint
from retune.search.stopping import collect_reasons, spent_s
from retune.search.trial import Attempt, Objective, Pruned, Tracker, Trial, TrialFailed, best_of
from retune.space import Setting

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Outcome:
    """How a trial's thread ended."""

    number: int
    result: dict[str, float] | BaseException
    duration_s: float


@dataclass(frozen=True)
class _Running:
    """A trial under way; its run in the tracker is being made."""

    setting: Setting
    run_id: Future[str]
    started_at: float


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
        log.info("resuming after %d trial%s", len(history), "" if len(history) == 1 else "s")
    reason = search.run()
    log.info("search stopped: %s", reason)
    best = best_of(search.trials)
    if best is None:
        raise AllTrialsFailed(_why_none(search.trials))
    return Result(best, search.trials, reason)


class _Search:
    """One search under way.

    Settings are proposed `queue` at a time: those of trials k·queue … k·queue + queue - 1 from the trials before
    k·queue that have ended. With one trial at a time these are all of them, so that a resumed search proposes what an
    uninterrupted one would have.

    Trials run in threads of their own, and the tracker in one, which does what it is told in order. No trial starts
    before the results of those that ended are kept, for a kill may cost no trial but those that run; while they are
    written, the engine proposes. A trial's own run and the progress are written while the next fit is under way.
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
        self._running: dict[int, _Running] = {}
        self._outcomes: SimpleQueue[_Outcome] = SimpleQueue()
        self._told: set[int] = set()
        self._proposed: dict[int, Setting] = {}
        self._writer = ThreadPoolExecutor(1, "tracker")
        self._writes: list[Future[Any]] = []
        self._unreported: Trial | None = None
        self._started_at, self._earlier_s = time.monotonic(), spent_s(history)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the search began, and those of earlier attempts in which trials ran."""
        return self._earlier_s + time.monotonic() - self._started_at

    @property
    def trials(self) -> list[Trial]:
        """All trials that ended, by number."""
        return [self._ended[number] for number in sorted(self._ended)]

    def run(self) -> str:
        """Keep as many trials going as the plan says until the budget is used up; return why it is."""
        with self._writer:
            reason = self._run()
            self._wait()
            return reason

    def _run(self) -> str:
        while True:
            reason = self._plan.budget.used_up(self.trials, self._plan.metric, self.elapsed_s, len(self._running))
            if reason is None and self._has_room():
                self._launch()
                continue
            self._report()
            if self._running:
                self._finish(self._outcomes.get())
            else:
                self._plan.budget.check_failed(self.trials)
                return str(reason)

    def _has_room(self) -> bool:
        if not self._running:
            return True
        at_once = {self._next_number(), *self._running}
        return len(at_once) <= self._plan.parallel and not at_once & self._plan.alone

    def _next_number(self) -> int:
        """Return the number of the trial to start next: one that was cut off in the middle before any later one."""
        numbers = range(len(self._ended) + len(self._running) + 1)
        return next(n for n in numbers if n not in self._ended and n not in self._running)

    def _launch(self) -> None:
        """Start the next trial, if there is time."""
        number = self._next_number()
        self._propose(number)
        setting = self._proposed[number]
        self._wait()
        if self._ended and self._plan.budget.timed_out(self.elapsed_s):
            return  # proposing took its time, too
        running = _Running(setting, self._write(self._tracker.start, number, setting), time.time())
        attempt = Attempt(earlier=self.trials, run_id=running.run_id, number=number)
        self._plan.thread(target=self._try, args=(number, setting, attempt), daemon=True).start()
        self._running[number] = running

    def _write(self, call: Callable[..., T], *arguments: object) -> Future[T]:
        """Have the tracker called in its own thread."""
        write = self._writer.submit(call, *arguments)
        self._writes.append(write)
        return write

    def _wait(self) -> None:
        """Wait until all is written, and meet whatever went wrong."""
        for write in self._writes:
            write.result()
        self._writes.clear()

    def _propose(self, number: int) -> None:
        """Tell and propose, batch after batch, until there is a setting for `number`."""
        while number not in self._proposed:
            first = len(self._proposed)
            for each in range(first):
                if each in self._ended and each not in self._told:
                    self._engine.tell(self._after + each, self._ended[each].setting, self._ended[each].loss)
                    self._told.add(each)
            for each in range(first, first + self._plan.queue):
                given = self._plan.points[each] if each < len(self._plan.points) else None
                self._proposed[each] = given if given is not None else self._engine.propose(self._after + each)

    def _try(self, number: int, setting: Setting, first: Attempt) -> None:
        """What a trial's thread does; it must not end without an outcome."""
        started = time.monotonic()
        try:
            result: dict[str, float] | BaseException = self._measure(number, setting, first)
        except SystemExit as error:  # of a user's function, which may end its trial only
            result = TrialFailed(f"SystemExit: {error}")
        except BaseException as error:  # the search's thread decides what it means
            result = error
        self._outcomes.put(_Outcome(number, result, time.monotonic() - started))

    def _finish(self, outcome: _Outcome) -> None:
        running, result = self._running[outcome.number], outcome.result
        run_id, duration_s = running.run_id.result(), outcome.duration_s
        trial = Trial(
            outcome.number, running.setting, run_id, None, duration_s=duration_s, started_at=running.started_at
        )
        if isinstance(result, TrialHung):
            log.error("trial %d  FAILED: %s  %s", trial.number, result, trial.setting)
            self._write(self._tracker.end, replace(trial, error=str(result)))
        if isinstance(result, RetuneError) or (isinstance(result, BaseException) and not isinstance(result, Exception)):
            raise result
        trial = self._judge(trial, result)
        self._write(self._tracker.end, trial)
        if trial.error is None and not isinstance(result, Exception):
            self._check_measures(result)
        del self._running[trial.number]
        self._ended[trial.number] = self._unreported = trial

    def _measure(self, number: int, setting: Setting, first: Attempt) -> dict[str, float]:
        """Try a setting, and again where the cluster is to blame."""
        for rung in range(self._plan.infra_retries):
            try:
                return self._objective(setting, replace(first, rung=rung))
            except Exception as error:
                if isinstance(error, (RetuneError, Pruned)) or not is_infrastructure(error):
                    raise
                text = root_cause(error).partition("\n")[0][:300]
                log.warning("trial %d: trouble in the infrastructure, trying again: %s", number, text)
        return self._objective(setting, replace(first, rung=self._plan.infra_retries))

    def _judge(self, trial: Trial, result: dict[str, float] | Exception) -> Trial:
        """Whatever a fit raises fails its trial, never the search."""
        name = f"validation_{self._plan.metric.name}"
        if isinstance(result, Pruned):
            return replace(trial, metrics=result.metrics, kept_out=f"pruned: {result}")
        if isinstance(result, Exception):
            log.debug("trial %d failed", trial.number, exc_info=result)
            kind = "" if isinstance(result, TrialFailed) else f"{type(result).__name__}: "
            return replace(trial, error=kind + root_cause(result))
        metrics, trial = result, replace(trial, metrics=result)
        if name not in metrics:
            return replace(trial, error=f"{name} was not measured, but {', '.join(metrics) or 'nothing'}")
        if not math.isfinite(metrics[name]):
            return replace(trial, error=f"{name} is {metrics[name]}, not a finite number")
        if broken := broken_constraint(self._plan.constraints, metrics):
            return replace(trial, kept_out=broken)
        return replace(trial, loss=self._plan.metric.loss(metrics[name]))

    def _check_measures(self, metrics: Mapping[str, float]) -> None:
        """End the search where a trial lacks what a constraint is about and none before had it: none ever will."""
        for measure, relation, bound in self._plan.constraints:
            if measure not in metrics and not any(measure in trial.metrics for trial in self.trials):
                raise BadInput(
                    f'search.constraints: "{measure} {relation} {bound:g}": {measure} was not measured, '
                    f"but {', '.join(metrics)}"
                )

    def _report(self) -> None:
        trial, self._unreported = self._unreported, None
        if trial is None:
            return
        trials, budget, name = self.trials, self._plan.budget, f"validation_{self._plan.metric.name}"
        best, elapsed_s = best_of(trials), self.elapsed_s
        progress = {"trials": len(trials), "elapsed_s": elapsed_s, "time_left_s": budget.time_left_s(trials, elapsed_s)}
        measured = trial.error is None and name in trial.metrics
        if measured:
            progress["trial_" + name] = trial.metrics[name]
        if best:
            progress["best_" + name] = best.metrics[name]
        self._write(self._tracker.report, len(trials), progress)
        if trial.error is not None:
            outcome = f"FAILED: {trial.error.splitlines()[0][:300]}"
        else:
            parts = [f"{name} {trial.metrics[name]:.6g}" if measured else "", trial.kept_out or ""]
            outcome = ", but ".join(part for part in parts if part)
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
    # What a constraint's measure was differs from trial to trial.
    reasons = collect_reasons([(trial.kept_out or trial.error or "").partition(": it is ")[0] for trial in trials])
    return f"none of {len(trials)} trials can be the best: {reasons}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
