"""The search loop with several trials at once."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.memory_tracker import MemoryTracker

from retune.errors import SparkLost, TooManyFailedTrials
from retune.metrics import METRICS
from retune.search.loop import run_search
from retune.search.plan import Plan, Result
from retune.search.stopping import Budget, spent_s
from retune.search.trial import Attempt, Trial
from retune.space import Setting


class ListeningEngine:
    """Proposes its number, and notes what it had been told by then."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.told_before: dict[int, list[int]] = {}

    def propose(self, number: int) -> Setting:
        self.told_before[number] = list(self.told)
        return {"n": number}

    def tell(self, number: int, setting: Setting, loss: float | None) -> None:
        self.told.append(number)


class Meeting:
    """An objective that waits until as many trials run at once as it was told, and counts them."""

    def __init__(self, parties: int) -> None:
        self._barrier = threading.Barrier(parties)

    def __call__(self, setting: Setting, attempt: Attempt) -> dict[str, float]:
        self._barrier.wait(10)
        return {"validation_rmse": float(setting["n"])}


def search(objective: Any, trials: int, parallel: int, **parts: Any) -> Result:
    engine, tracker = parts.pop("engine", ListeningEngine()), parts.pop("tracker", MemoryTracker())
    history = parts.pop("history", ())
    budget = {name: parts.pop(name) for name in list(parts) if name in Budget.__dataclass_fields__}
    plan = Plan(METRICS["rmse"], Budget(trials, **budget), parallel=parallel, **parts)
    return run_search(engine, objective, tracker, plan, history)


def test_as_many_run_at_once_as_the_plan_says():
    result = search(Meeting(3), 9, parallel=3)  # were it fewer, the barrier would break
    assert [trial.number for trial in result.trials] == list(range(9))
    assert result.best.number == 0


def test_no_more_run_at_once_than_the_plan_says_and_none_beyond_max_trials():
    running, most, lock = 0, 0, threading.Lock()

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return {"validation_rmse": 1.0}

    assert len(search(objective, 7, parallel=3).trials) == 7
    assert most <= 3


def test_a_trial_that_is_to_run_alone_does():
    beside: dict[int, int] = {}
    running: set[int] = set()

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        running.add(setting["n"])
        time.sleep(0.02)
        beside[setting["n"]] = len(running)
        running.remove(setting["n"])
        return {"validation_rmse": 1.0}

    search(objective, 7, parallel=2, alone=frozenset({1, 4}))
    assert (beside[1], beside[4]) == (1, 1)
    assert max(beside.values()) == 2


def test_a_free_place_is_filled_at_once_and_the_engine_knows_all_that_have_ended():
    slow = threading.Event()

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        if setting["n"] == 0:
            assert slow.wait(10)
        if setting["n"] == 4:
            slow.set()
        return {"validation_rmse": 1.0}

    engine = ListeningEngine()
    search(objective, 6, parallel=2, engine=engine)
    assert engine.told_before[4] == [1, 2, 3]  # trial 0 was still running


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(1, 4), st.sets(st.integers(0, 7)))
def test_whatever_the_order_in_which_they_end_each_number_is_tried_once(delays, parallel, ended):
    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        tried.append(setting["n"])
        time.sleep(delays[setting["n"]] / 1000)
        return {"validation_rmse": float(setting["n"])}

    tried: list[int] = []
    history = [
        Trial(n, {"n": n}, f"earlier {n}", float(n), {"validation_rmse": 0.0}) for n in sorted(ended) if n < len(delays)
    ]
    engine = ListeningEngine()
    result = search(objective, len(delays), parallel, history=history, engine=engine)
    assert sorted([*tried, *(trial.number for trial in history)]) == list(range(len(delays)))
    assert [trial.number for trial in result.trials] == list(range(len(delays)))
    assert len(engine.told) == len(set(engine.told))


def test_what_ends_the_search_ends_it_while_others_run():
    release = threading.Event()

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        if setting["n"] == 1:
            raise SparkLost("the Spark application is gone")
        release.wait(10)
        return {"validation_rmse": 1.0}

    try:
        with pytest.raises(SparkLost):
            search(objective, 4, parallel=2)
    finally:
        release.set()


def test_trials_that_run_when_the_budget_is_spent_still_count():
    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        time.sleep(0.02 * setting["n"])
        return {"validation_rmse": 10.0 - setting["n"]}

    result = search(objective, 50, parallel=3, loss_threshold=10.0)
    assert result.stop_reason == "loss_threshold = 10 reached by trial 2"
    assert [trial.number for trial in result.trials] == [0, 1, 2]


def test_a_hopeless_search_waits_for_what_runs_and_says_why():
    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        raise ValueError("no good")

    tracker = MemoryTracker()
    with pytest.raises(TooManyFailedTrials, match="× ValueError: no good"):
        search(objective, 50, parallel=2, max_failed_trials=3, tracker=tracker)
    assert len(tracker.history()) == len(tracker.started) in (3, 4)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([(0, 10), (0, 10)], 10),
        ([(0, 10), (5, 10)], 15),
        ([(0, 10), (20, 5)], 15),
        ([(0, 30), (5, 10), (29, 2)], 31),
        ([(None, 10), (None, 10)], 20),
        ([], 0),
    ],
)
def test_seconds_in_which_several_trials_ran_count_once(spans, seconds):
    trials = [Trial(n, {}, "", 1.0, duration_s=length, started_at=start) for n, (start, length) in enumerate(spans)]
    assert spent_s(trials) == seconds


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_trial_learns_its_run_while_it_is_under_way(parallel):
    tracker, seen = MemoryTracker(), {}

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        seen[setting["n"]] = attempt.run_id.result(timeout=5)
        return {"validation_rmse": 1.0}

    search(objective, 4, parallel, tracker=tracker)
    assert seen == {trial.number: trial.run_id for trial in tracker.history()}


def test_a_result_is_kept_before_the_next_trial_starts_and_progress_is_told_beside_it():
    events: list[str] = []

    class Recorder(MemoryTracker):
        def end(self, trial: Trial) -> None:
            events.append(f"end {trial.number}")
            super().end(trial)

        def report(self, step: int, progress: dict[str, float]) -> None:
            events.append(f"report {step}")

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        events.append(f"fit {setting['n']}")
        return {"validation_rmse": 1.0}

    search(objective, 2, 1, tracker=Recorder())
    assert events.index("end 0") < events.index("fit 1")
    assert [event for event in events if "fit" not in event] == ["end 0", "report 1", "end 1", "report 2"]
