"""What every tracker of trials must do. A test module subclasses this and gives a fixture `tracker`."""

from typing import Any

import pytest

from retune.search.trial import Trial

SETTING = {"rate": 0.1, "leaves": 31, "booster": {"drop": 0.25, "mode": "dart"}, "listed": [1, None, True]}


def end_trial(tracker: Any, number: int, loss: float | None = 0.5, **fields: Any) -> Trial:
    """Start and end one trial."""
    metrics = {} if loss is None else {"validation_rmse": loss}
    error = "ValueError: no leaf left" if loss is None else None
    known = {"metrics": metrics, "duration_s": 1.5, "error": error, **fields}
    trial = Trial(number, SETTING, tracker.start(number, SETTING), loss, **known)
    tracker.end(trial)
    return trial


class TrackerConformance:
    @pytest.fixture
    def tracker(self) -> Any:
        raise NotImplementedError("a conformance suite needs the fixture `tracker`")

    def test_it_starts_without_a_history(self, tracker):
        assert tracker.history() == []

    def test_every_trial_has_a_run_of_its_own(self, tracker):
        assert len({tracker.start(number, SETTING) for number in (0, 1, 1)}) == 3

    def test_its_history_is_what_it_was_told(self, tracker):
        trials = [end_trial(tracker, 0), end_trial(tracker, 1, loss=-0.25), end_trial(tracker, 2, loss=None)]
        assert tracker.history() == trials

    def test_its_history_is_in_the_order_of_numbers(self, tracker):
        late, early = end_trial(tracker, 3), end_trial(tracker, 1)
        assert tracker.history() == [early, late]

    def test_a_trial_that_did_not_end_is_not_in_its_history(self, tracker):
        ended = end_trial(tracker, 0)
        tracker.start(1, SETTING)
        assert tracker.history() == [ended]

    def test_a_trial_that_was_cut_off_can_be_done_again(self, tracker):
        tracker.start(0, SETTING)
        tracker.history()
        again = end_trial(tracker, 0)
        assert tracker.history() == [again]

    def test_a_trial_that_was_kept_out_says_why(self, tracker):
        kept_out = end_trial(tracker, 0, loss=None, error=None, metrics={"validation_rmse": 3.0}, kept_out="pruned: x")
        assert tracker.history() == [kept_out]

    def test_it_takes_progress_by_step(self, tracker):
        end_trial(tracker, 0)
        tracker.report(1, {"trials": 1, "best_validation_rmse": 0.5})
        assert len(tracker.history()) == 1

    def test_a_failed_trial_keeps_what_was_measured(self, tracker):
        failed = end_trial(tracker, 0, loss=None, metrics={"train_rmse": 3.0})
        assert tracker.history() == [failed]
