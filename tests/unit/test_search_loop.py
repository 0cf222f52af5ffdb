"""The search loop: what wins, what fails, when it stops, and how it goes on."""

import logging
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hyperopt import Trials
from hypothesis import given
from hypothesis import strategies as st
from unit.memory_tracker import MemoryTracker
from unit.tracker_conformance import TrackerConformance

from retune.errors import AllTrialsFailed, BadInput, RetuneError, TooManyFailedTrials, TrialHung
from retune.metrics import METRICS, Metric
from retune.search import loop
from retune.search.early_stop import stop_function
from retune.search.loop import run_search
from retune.search.plan import Plan, Result
from retune.search.stopping import Budget
from retune.search.trial import Attempt, Objective, Pruned, Trial, best_of
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


def gives(values: Sequence[float], metric: Metric = RMSE) -> Objective:
    """Return an objective whose trial n measures the n-th value."""
    return lambda setting, attempt: {f"validation_{metric.name}": values[setting["n"]]}


def search(
    objective: Objective,
    trials: int,
    metric: Metric = RMSE,
    history: Sequence[Trial] = (),
    warm: Sequence[Trial] = (),
    **parts: Any,
) -> Result:
    engine, tracker = parts.pop("engine", CountingEngine()), parts.pop("tracker", MemoryTracker())
    budget = {name: parts.pop(name) for name in list(parts) if name in Budget.__dataclass_fields__}
    plan = Plan(metric, Budget(trials, **budget), **parts)
    return run_search(engine, objective, tracker, plan, history, warm)


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

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
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
        AllTrialsFailed, match=r"^all 1 trials failed; the first error was: validation_rmse was not measured, but valid"
    ):
        search(lambda setting, attempt: {"validation_r2": 1.0}, 1)


@pytest.mark.parametrize("error", [RetuneError, BadInput, KeyboardInterrupt])
def test_what_is_no_failure_of_a_trial_ends_the_search(error):
    tracker = MemoryTracker()

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        raise error("stop now")

    with pytest.raises(error, match="stop now"):
        search(objective, 5, tracker=tracker)
    assert len(tracker.started) == 1
    assert tracker.history() == []


def test_when_all_trials_fail_the_first_error_is_told():
    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        raise ValueError(f"trial {setting['n']} is no good")

    assert AllTrialsFailed.exit_code == TooManyFailedTrials.exit_code == BadInput.exit_code  # Airflow does not retry
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
    assert engine.told == [(0, {"n": 0}, 2.0), (1, {"n": 1}, None)]


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
def ten_seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Stop the clock; each call puts it on by 10 seconds."""
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(loop.time, "time", lambda: now[0])

    def pass_by() -> None:
        now[0] += 10

    return pass_by


def lasting(ten_seconds: Callable[[], None], objective: Objective) -> Objective:
    """Return an objective that takes 10 seconds."""

    def measure(setting: Setting, attempt: Attempt) -> dict[str, float]:
        ten_seconds()
        return objective(setting, attempt)

    return measure


def test_it_starts_no_trial_after_the_timeout(ten_seconds):
    result = search(lasting(ten_seconds, gives([1.0] * 9)), 9, timeout_s=25)
    assert [trial.duration_s for trial in result.trials] == [10, 10, 10]
    assert result.stop_reason == "timeout = 25 s reached after 3 trials"


def test_time_between_trials_counts(ten_seconds):
    class SlowEngine(CountingEngine):
        def propose(self, number: int) -> Setting:
            ten_seconds()
            return super().propose(number)

    assert len(search(lasting(ten_seconds, gives([1.0] * 9)), 9, engine=SlowEngine(), timeout_s=25).trials) == 1


def test_the_time_of_earlier_trials_counts(ten_seconds):
    objective = lasting(ten_seconds, gives([1.0] * 9))
    assert len(search(objective, 9, history=[ended(0, duration_s=20.0)], timeout_s=25).trials) == 2


def test_a_failed_trial_has_a_duration(ten_seconds):
    tracker = MemoryTracker()
    search(lasting(ten_seconds, gives([math.nan, 1.0])), 2, tracker=tracker)
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


def test_the_log_has_the_loss_of_a_trial_that_breaks_a_constraint(caplog):
    caplog.set_level(logging.INFO, logger=loop.log.name)
    tracker = MemoryTracker()
    search(gives([2.0, 1.0]), 2, constraints=[("validation_rmse", "<=", 1.0)], tracker=tracker)
    line = "1/2  trial 0  validation_rmse 2, but validation_rmse <= 1 does not hold: it is 2  none succeeded yet"
    assert caplog.records[0].message.startswith(line)
    assert tracker.progress[0]["trial_validation_rmse"] == 2.0


def test_points_are_tried_first_and_told_to_the_engine():
    engine = CountingEngine()
    result = search(gives([5.0] * 10), 4, points=[{"n": 7}, {"n": 8}], engine=engine)
    assert [trial.setting["n"] for trial in result.trials] == [7, 8, 2, 3]
    assert [setting["n"] for _, setting, _ in engine.told] == [7, 8, 2]


def test_a_queue_is_proposed_before_any_of_it_is_told():
    class Engine(CountingEngine):
        def propose(self, number: int) -> Setting:
            seen.append((number, len(self.told)))
            return super().propose(number)

    seen: list[tuple[int, int]] = []
    search(gives([1.0] * 7), 7, queue=3, engine=Engine())
    assert seen == [(0, 0), (1, 0), (2, 0), (3, 3), (4, 3), (5, 3), (6, 6), (7, 6), (8, 6)]


@given(st.integers(0, 6), st.integers(1, 4))
def test_a_search_interrupted_anywhere_asks_and_tells_as_an_uninterrupted_one(cut, queue):
    values = [3.0, math.nan, 1.0, 2.0, 0.5, 0.7]
    whole, resumed = CountingEngine(), CountingEngine()
    search(gives(values), 6, queue=queue, engine=whole)
    tracker = MemoryTracker()
    if cut:
        search(gives([1.0, *values]) if cut == 7 else gives(values), cut, queue=queue, tracker=tracker)
    search(gives(values), 6, queue=queue, engine=resumed, history=tracker.history())
    if cut < 6:
        assert resumed.told == whole.told


def test_warm_trials_are_told_first_and_not_counted():
    engine = CountingEngine()
    warm = [ended(-2, 3.0), ended(-1, None)]
    result = search(gives([9.0, 9.0, 1.0, 2.0]), 2, warm=warm, engine=engine)
    assert result.best.setting == {"n": 2}
    assert [number for number, _, _ in engine.told] == [-2, -1, 2]
    assert [trial.number for trial in result.trials] == [0, 1]


def test_infrastructure_is_tried_again_down_the_ladder_and_a_bad_setting_is_not():
    rungs: list[tuple[int, int]] = []

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        rungs.append((setting["n"], attempt.rung))
        if setting["n"] == 0 and attempt.rung < 2:
            raise OSError("java.net.ConnectException: Connection refused")
        if setting["n"] == 1:
            raise ValueError("num_leaves must be positive")
        return {"validation_rmse": 1.0}

    result = search(objective, 3, infra_retries=2)
    assert rungs == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]
    assert [trial.error for trial in result.trials] == [None, "ValueError: num_leaves must be positive", None]


def test_trouble_that_stays_fails_the_trial():
    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        raise ConnectionResetError("gone")

    with pytest.raises(AllTrialsFailed, match="ConnectionResetError: gone"):
        search(objective, 1, infra_retries=3)


def test_earlier_trials_are_there_to_compare_with():
    seen: list[int] = []

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        seen.append(len(attempt.earlier))
        return {"validation_rmse": 1.0}

    search(objective, 3, history=[ended(0)])
    assert seen == [1, 2]


def test_a_pruned_trial_is_neither_failed_nor_best():
    tracker, engine = MemoryTracker(), CountingEngine()

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        if setting["n"] == 0:
            raise Pruned("no hope", {"fold_0_validation_rmse": 0.1})
        return {"validation_rmse": 1.0}

    result = search(objective, 2, tracker=tracker, engine=engine)
    pruned = tracker.history()[0]
    assert (pruned.loss, pruned.error, pruned.kept_out) == (None, None, "pruned: no hope")
    assert pruned.metrics == {"fold_0_validation_rmse": 0.1}
    assert result.best.number == 1
    assert engine.told[0] == (0, {"n": 0}, None)


def test_a_trial_that_breaks_a_constraint_is_never_the_best():
    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        return {"validation_rmse": float(setting["n"]), "model_size_mb": 60.0 - setting["n"] * 20}

    result = search(objective, 3, constraints=[("model_size_mb", "<=", 40.0)])
    assert result.best.number == 1
    assert result.trials[0].kept_out == "model_size_mb <= 40 does not hold: it is 60"


def test_when_every_trial_is_kept_out_the_reasons_are_told():
    with pytest.raises(AllTrialsFailed, match=r"none of 2 trials .*: 2 × validation_rmse <= 1 does not hold$"):
        search(gives([2.0, 3.0]), 2, constraints=[("validation_rmse", "<=", 1.0)])


def test_too_many_failures_end_the_search_with_their_reasons():
    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        raise ValueError("no leaf left" if setting["n"] else "first")

    with pytest.raises(TooManyFailedTrials, match=r"3 of 3 trials failed.*2 × ValueError: no leaf left; 1 × ValueE"):
        search(objective, 100, max_failed_trials=3)


@pytest.mark.parametrize(("metric", "threshold"), [(RMSE, 2.0), (R2, 0.5)])
def test_it_stops_at_a_trial_that_is_good_enough(metric, threshold):
    values = [3.0, 2.0, 0.1] if metric is RMSE else [0.1, 0.5, 0.9]
    result = search(gives(values, metric), 3, metric, loss_threshold=threshold)
    assert len(result.trials) == 2
    assert result.stop_reason == f"loss_threshold = {threshold:g} reached by trial 1"


def test_it_stops_without_progress():
    result = search(gives([3.0, 2.6, 2.55, 2.3, 0.1]), 5, patience=2, minimum_gain=0.5)
    assert [trial.loss for trial in result.trials] == [3.0, 2.6, 2.55]
    assert result.stop_reason == "early_stop: no progress in 2 trials"


def test_it_stops_when_a_function_of_hyperopts_form_says_so():
    from hyperopt.early_stop import no_progress_loss

    rule = ("m:f", stop_function("m:f", no_progress_loss(2)))
    result = search(gives([3.0, 2.0, math.nan, 2.5, 2.6, 0.1]), 6, stop_function=rule)
    assert result.stop_reason == "early_stop: m:f said so"
    assert len(result.trials) < 6


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_function_of_hyperopts_form_stops_after_as_many_trials_as_fmin_would(cut):
    from hyperopt import fmin, hp, rand
    from hyperopt.early_stop import no_progress_loss

    values = [3.0, 2.0, 2.5, 1.0, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5]
    theirs = Trials()
    fmin(
        lambda _: values[len(theirs.trials) - 1],
        hp.uniform("x", 0, 1),
        algo=rand.suggest,
        max_evals=len(values),
        trials=theirs,
        early_stop_fn=no_progress_loss(3),
        show_progressbar=False,
    )
    assert 3 < len(theirs.trials) < len(values)
    tracker = MemoryTracker()
    if cut:
        search(gives(values), cut, tracker=tracker)
    rule = ("m:f", stop_function("m:f", no_progress_loss(3)))
    ours = search(gives(values), len(values), history=tracker.history(), stop_function=rule)
    assert len(ours.trials) == len(theirs.trials)


def test_a_hung_trial_is_failed_before_the_search_ends():
    tracker = MemoryTracker()

    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        raise TrialHung("nothing ends it")

    with pytest.raises(TrialHung):
        search(objective, 5, tracker=tracker)
    assert [trial.error for trial in tracker.history()] == ["nothing ends it"]


def test_progress_is_reported_trial_by_trial():
    tracker = MemoryTracker()
    search(gives([2.0, math.nan, 1.0]), 3, tracker=tracker)
    assert [step["trials"] for step in tracker.progress] == [1, 2, 3]
    assert [step["best_validation_rmse"] for step in tracker.progress] == [2.0, 2.0, 1.0]
    assert ["trial_validation_rmse" in step for step in tracker.progress] == [True, False, True]


def test_an_early_stop_function_that_returns_no_pair_is_named():
    for returned in (True, "no"):
        rule = ("m:f", stop_function("m:f", lambda trials, returned=returned: returned))
        with pytest.raises(BadInput, match=rf"early_stop.function = 'm:f': returned {returned!r}, not "):
            search(gives([3.0, 2.0]), 2, stop_function=rule)


def test_an_early_stop_function_that_fails_is_named():
    rule = ("m:f", stop_function("m:f", lambda trials: 1 / 0))
    with pytest.raises(BadInput, match=r"^search\.early_stop\.function = 'm:f': ZeroDivisionError: division by zero"):
        search(gives([3.0, 2.0]), 2, stop_function=rule)


def test_an_objective_that_exits_fails_its_trial_only():
    def objective(setting: Setting, attempt: Attempt) -> dict[str, float]:
        if setting["n"] == 0:
            sys.exit(3)
        return {"validation_rmse": 1.0}

    assert [trial.error for trial in search(objective, 2).trials] == ["SystemExit: 3", None]


def test_a_constraint_on_what_nothing_measures_ends_the_search_at_once():
    tracker = MemoryTracker()
    with pytest.raises(BadInput, match=r'^search\.constraints: "profitt <= 5": profitt was not measured, but valid'):
        search(gives([3.0, 2.0]), 2, constraints=[("profitt", "<=", 5.0)], tracker=tracker)
    assert len(tracker.history()) == 1
