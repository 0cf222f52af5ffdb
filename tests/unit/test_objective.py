"""What a function of the user's may return, and on how many train rows a trial is scored."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from retune.metrics import METRICS
from retune.placements.objective import read_returned, train_sample


def test_numbers_of_any_kind_are_measures_and_all_else_is_left_out():
    returned = {"loss": np.float32(0.5), "size": 3, "cost": Decimal("1.5"), "scores": np.array([1, 2]), "note": "x"}
    assert read_returned(returned, METRICS["accuracy"]) == {"validation_accuracy": -0.5, "size": 3.0, "cost": 1.5}
    assert read_returned(np.float64(2), METRICS["rmse"]) == {"validation_rmse": 2.0}


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"loss": 1, "precision@10": 0.5}, "the objective returned 'precision@10': a measure's name has letters"),
        ({"status": "fail", "loss": 1}, "the objective said 'fail'"),
        ({"cost": 1}, "not a loss or a mapping with one"),
        (np.array([1.0, 2.0]), "not a loss or a mapping with one"),
    ],
    ids=str,
)
def test_what_is_no_loss_or_cannot_be_logged_fails_the_trial(returned, message):
    with pytest.raises(ValueError, match=message):
        read_returned(returned, METRICS["rmse"])


@pytest.mark.parametrize(("held_out", "sample"), [(10, 1_000), (3_000, 3_000), (100_000, 20_000)])
def test_as_many_train_rows_are_scored_as_are_held_out_within_bounds(held_out, sample):
    assert train_sample(held_out) == sample
