"""The search loop: what wins, what fails, when it stops, and how it goes on."""

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.memory_tracker import MemoryTracker
from unit.tracker_conformance import TrackerConformance

from retune.errors import AllTrialsFailed, BadInput, RetuneError
from retune.metrics import METRICS, Metric
from retune.search import loop
from retune.search.loop import Budget, Result, Trial, best_of, run_search
from retune.space import Setting

RMSE, R2 = METRICS["rmse"], METRICS["r2"]
VALUES = st.lists(st.floats(-100, 100) | st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1, max_size=8)


class TestMemoryTracker(TrackerConformance):
    @pytest.fixture
    def tracker(self) -> MemoryTracker:
        return MemoryTracker()


class CountingEngine:
    """Proposes its number, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Setting, float | None]] = []

    def propose(self, number: int) -> Setting:
        return {"n": number}

    def tell(self, number: int, setting: Setting, loss: float | None) -> None:
        self.told.append((number, setting, loss))


def gives(values: Sequence[float], metric: Metric = RMSE) -> Callable[[Setting], dict[str, float]]:
    """Return an objective whose trial n measures the n-th value."""
    return lambda setting: {f"validation_{metric.name}": values[setting["n"]]}


def search(
    objective: Callable[[Setting], dict[str, float]],
    trials: int,
    metric: Metric = RMSE,
    history: Sequence[Trial] = (),
    **parts: Any,
) -> Result:
    engine, tracker = parts.pop("engine", CountingEngine()), parts.pop("tracker", MemoryTracker())
    return run_search(engine, objective, tracker, metric, Budget(trials, **parts), history)


def ended(number: int, loss: float | None = 1.0, **fields: Any) -> Trial:
    metrics = {} if loss is None else {"validation_rmse": loss}
    return Trial(number, {"n": number}, f"earlier {number}", loss, metrics, **fields)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=6, unique=True), st.randoms())
def test_the_best_trial_does_not_depend_on_the_order_of_trials(values, random):
    shuffled = random.sample(values, len(values))
    first, second = search(gives(values), len(values)), search(gives(shuffled), len(values))
    assert first.best.loss == second.best.loss == min(values)


@given(st.permutations([ended(n, loss) for n, loss in enumerate([3.0, 1.0, None, 1.0, 2.0])]))
def test_of_equal_trials_the_earliest_is_best_whatever_their_order(trials):
    best = best_of(trials)
    assert best is not None
    assert best.number == 1


@given(VALUES)
def test_maximising_is_minimising_the_negative(values):
    negatives = [-value for value in values]
    if not any(map(math.isfinite, values)):
        return
    up, down = search(gives(values, R2), len(values), R2), search(gives(negatives), len(values))
    assert up.best.number == down.best.number
    assert [trial.loss for trial in up.trials] == [trial.loss for trial in down.trials]


@given(VALUES, st.sampled_from([RMSE, R2]))
def test_a_value_that_is_not_finite_never_wins(values, metric):
    if not any(map(math.isfinite, values)):
        with pytest.raises(AllTrialsFailed, match="not a finite number"):
            search(gives(values, metric), len(values), metric)
        return
    result = search(gives(values, metric), len(values), metric)
    assert result.best.loss == min(metric.loss(value) for value in values if math.isfinite(value))
    for trial, value in zip(result.trials, values, strict=True):
        assert (trial.loss is None) == (trial.error is not None) == (not math.isfinite(value))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_trial_that_is_not_finite_is_failed_with_its_value_named(value):
    tracker, engine = MemoryTracker(), CountingEngine()
    search(gives([value, 1.0]), 2, tracker=tracker, engine=engine)
    failed = tracker.history()[0]
    assert failed.error == f"validation_rmse is {value}, not a finite number"
    assert engine.told[0] == (0, {"n": 0}, None)


def test_an_exception_fails_its_trial_and_the_search_goes_on():
    tracker = MemoryTracker()

    def objective(setting: Setting) -> dict[str, float]:
        if setting["n"] == 0:
            raise ArithmeticError("no leaf left")
        return {"validation_rmse": 2.0}

    result = search(objective, 2, tracker=tracker)
    assert [(trial.loss, trial.error) for trial in tracker.history()] == [
        (None, "ArithmeticError: no leaf left"),
        (2.0, None),
    ]
    assert result.best.number == 1


def test_a_metric_that_was_not_measured_fails_the_trial():
    with pytest.raises(
        AllTrialsFailed, match=r"^all 1 trials failed; the first error was: KeyError: 'validation_rmse'"
    ):
        search(lambda setting: {"validation_r2": 1.0}, 1)


@pytest.mark.parametrize("error", [RetuneError, BadInput, KeyboardInterrupt])
def test_what_is_no_failure_of_a_trial_ends_the_search(error):
    tracker = MemoryTracker()

    def objective(setting: Setting) -> dict[str, float]:
        raise error("stop now")

    with pytest.raises(error, match="stop now"):
        search(objective, 5, tracker=tracker)
    assert len(tracker.started) == 1
    assert tracker.history() == []


def test_when_all_trials_fail_the_first_error_is_told():
    def objective(setting: Setting) -> dict[str, float]:
        raise ValueError(f"trial {setting['n']} is no good")

    with pytest.raises(AllTrialsFailed, match=r"^all 3 trials failed; the first error was: ValueError: trial 0 is no"):
        search(objective, 3)


def test_when_all_trials_of_the_history_failed_their_first_error_is_told():
    history = [ended(0, None, error="OSError: disk full"), ended(1, None, error="OSError: later")]
    with pytest.raises(AllTrialsFailed, match=r"^all 2 trials failed; the first error was: OSError: disk full"):
        search(gives([]), 2, history=history)


def test_it_stops_after_max_trials_failed_ones_included():
    result = search(gives([math.nan, 2.0, 1.0, 0.0]), 3)
    assert [trial.number for trial in result.trials] == [0, 1, 2]
    assert result.stop_reason == "max_trials = 3 reached"


def test_earlier_trials_count():
    engine = CountingEngine()
    result = search(gives([9, 9, 0.5]), 3, history=[ended(0, 2.0), ended(1, None, error="x")], engine=engine)
    assert result.best.number == 2
    assert engine.told == [(0, {"n": 0}, 2.0), (1, {"n": 1}, None), (2, {"n": 2}, 0.5)]


def test_a_search_whose_budget_is_spent_tries_nothing():
    tracker = MemoryTracker()
    result = search(gives([]), 2, history=[ended(0, 2.0), ended(1, 1.0)], tracker=tracker)
    assert result.best.number == 1
    assert tracker.started == {}


def test_a_gap_in_the_history_is_filled_first():
    tracker = MemoryTracker()
    search(gives([1.0] * 6), 5, history=[ended(0), ended(2), ended(4)], tracker=tracker)
    assert [trial.number for trial in tracker.history()] == [1, 3]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every trial last 10 seconds."""
    ticks = itertools.count(0, 10)
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(ticks)))


@pytest.mark.usefixtures("clock")
def test_it_starts_no_trial_after_the_timeout():
    result = search(gives([1.0] * 9), 9, timeout_s=25)
    assert [trial.duration_s for trial in result.trials] == [10, 10, 10]
    assert result.stop_reason == "timeout = 25 s reached after 3 trials"


@pytest.mark.usefixtures("clock")
def test_the_time_of_earlier_trials_counts():
    result = search(gives([1.0] * 9), 9, history=[ended(0, duration_s=20.0)], timeout_s=25)
    assert len(result.trials) == 2


@pytest.mark.usefixtures("clock")
def test_a_failed_trial_has_a_duration():
    tracker = MemoryTracker()
    search(gives([math.nan, 1.0]), 2, tracker=tracker)
    assert tracker.history()[0].duration_s == 10


def test_an_interrupted_search_ends_as_if_it_had_not_been():
    values = [3.0, math.nan, 1.0, 2.0, 0.5]
    whole = search(gives(values), 5)
    tracker = MemoryTracker()
    search(gives(values), 2, tracker=tracker)
    resumed = search(gives(values), 5, history=tracker.history())
    assert [(t.number, t.setting, t.loss) for t in resumed.trials] == [
        (t.number, t.setting, t.loss) for t in whole.trials
    ]
    assert resumed.best.number == whole.best.number


def test_the_log_tells_progress_and_failures(caplog):
    caplog.set_level(logging.INFO, logger=loop.log.name)
    search(gives([2.0, math.nan, 1.0]), 3)
    lines = [record.message for record in caplog.records]
    assert lines[0].startswith("1/3  trial 0  validation_rmse 2  best 2 (trial 0)")
    assert lines[1].startswith("2/3  trial 1  FAILED: validation_rmse is nan, not a finite number  best 2 (trial 0)")
    assert lines[2].startswith("3/3  trial 2  validation_rmse 1  best 1 (trial 2)")
    assert lines[3] == "search stopped: max_trials = 3 reached"
