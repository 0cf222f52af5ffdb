"""Metrics on arrays, against scikit-learn's on the same predictions."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from retune.scoring import score_model


class Says:
    """A model of given probabilities."""

    classes_ = np.arange(3)

    def __init__(self, probability: np.ndarray) -> None:
        self._probability = probability

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        return self._probability


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_certainty_that_is_wrong_costs_what_it_costs_with_scikit_learn(precision):
    # Less than one can tell from nothing in single precision, and less than that in double.
    probability = np.array([[1, 1e-9, 0], [0.25, 0.5, 0.25], [1, 0, 1e-20]], precision)
    labels = np.array([1.0, 1.0, 2.0])
    found = score_model(Says(probability), np.zeros((3, 1)), labels, "multiclass", 3, "log_loss")
    assert found["log_loss"] == pytest.approx(log_loss(labels, probability, labels=[0, 1, 2]), abs=1e-6)
