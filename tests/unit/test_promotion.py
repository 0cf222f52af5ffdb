"""The rule by which a challenger becomes champion."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retune.metrics import METRICS
from retune.promotion import Decision, decide

RMSE, R2 = METRICS["rmse"], METRICS["r2"]
VALUES = st.floats(-100, 100)


@pytest.mark.parametrize(
    ("metric", "minimum", "challenger", "champion", "promote", "reason"),
    [
        (R2, 0.0, 0.8, 0.7, True, "gain 0.1 is above the minimum of 0"),
        (R2, 0.0, 0.7, 0.7, False, "gain 0 is not above the minimum of 0"),
        (R2, 0.0, 0.6, 0.7, False, "gain -0.1 is not above the minimum of 0"),
        (R2, 0.25, 0.75, 0.5, True, "gain 0.25 reaches the minimum of 0.25"),
        (R2, 0.25, 0.625, 0.5, False, "gain 0.125 does not reach the minimum of 0.25"),
        (RMSE, 0.0, 50.0, 60.0, True, "test rmse 50 against the champion's 60 (version 3): gain 10 is above"),
        (RMSE, 0.0, 60.0, 50.0, False, "gain -10 is not above the minimum of 0"),
    ],
)
def test_the_alias_moves_when_the_gain_is_enough(metric, minimum, challenger, champion, promote, reason):
    decision = decide(metric, minimum, ("4", challenger), ("3", champion))
    assert decision.promote is promote
    assert reason in decision.reason
    assert (decision.challenger, decision.champion) == ("4", "3")


def test_the_first_model_becomes_champion():
    decision = decide(RMSE, 5.0, ("1", 50.0), None)
    assert decision == Decision(True, "there was no champion yet; test rmse 50", "1", None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("champion", [None, ("1", 50.0), ("1", math.nan)])
def test_a_challenger_whose_value_is_not_finite_never_wins(value, champion):
    decision = decide(RMSE, 0.0, ("2", value), champion)
    assert not decision.promote
    assert decision.reason == f"the challenger's test rmse is {value}"
    assert decision.champion == (champion and "1")


@pytest.mark.parametrize("metric", [RMSE, R2])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_champion_whose_value_is_not_finite_does_not_stay(metric, value):
    decision = decide(metric, 1.0, ("2", 50.0), ("1", value))
    assert decision.promote
    assert f"of champion version 1 is {value}" in decision.reason


def test_a_champion_that_cannot_score_does_not_stay():
    decision = decide(RMSE, 0.0, ("2", 50.0), ("1", math.nan), unusable="the column age is gone")
    assert decision.promote
    assert decision.reason == "champion version 1 cannot score today's rows: the column age is gone"


def test_a_champion_is_not_promoted_over_itself():
    decision = decide(RMSE, 0.0, ("2", 50.0), ("2", 50.0))
    assert decision == Decision(False, "version 2 is the champion already", "2", "2")


@given(VALUES, VALUES, st.floats(0, 10))
def test_maximising_decides_as_minimising_the_negative(challenger, champion, minimum):
    up = decide(R2, minimum, ("2", challenger), ("1", champion))
    down = decide(RMSE, minimum, ("2", -challenger), ("1", -champion))
    assert up.promote == down.promote


@given(VALUES, VALUES, st.floats(0, 10))
def test_of_two_models_at_most_one_beats_the_other(a, b, minimum):
    forth, back = decide(RMSE, minimum, ("2", a), ("1", b)), decide(RMSE, minimum, ("2", b), ("1", a))
    assert not (forth.promote and back.promote)


@given(VALUES, VALUES, st.floats(0, 10))
def test_asking_for_more_gain_never_promotes_more(challenger, champion, minimum):
    if decide(RMSE, minimum, ("2", challenger), ("1", champion)).promote:
        assert decide(RMSE, 0.0, ("2", challenger), ("1", champion)).promote


def test_a_decision_is_plain_data_and_back():
    decision = decide(RMSE, 0.0, ("2", 50.0), ("1", 60.0))
    assert Decision(**decision.as_dict()) == decision  # type: ignore[arg-type]
