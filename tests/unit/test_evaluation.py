"""Classification metrics from a confusion matrix, against scikit-learn."""

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss

from retune.evaluation import _regression_metrics, classification_metrics


def count_cells(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Return the confusion matrix in cells, as Spark aggregates it."""
    cells: dict[tuple[int, int], list[float]] = defaultdict(list)
    for label, row in zip(labels, probabilities, strict=True):
        cells[int(label), int(row.argmax())].append(-math.log(max(row[label], 2**-52)))
    return [
        {"label": label, "prediction": prediction, "rows": len(losses), "log_loss": sum(losses)}
        for (label, prediction), losses in cells.items()
    ]


@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_they_are_those_of_scikit_learn(classes, rows, seed):
    rng = np.random.default_rng(seed)
    labels, probabilities = rng.integers(classes, size=rows), rng.dirichlet(np.ones(classes), size=rows)
    predictions = probabilities.argmax(axis=1)
    every = list(range(classes))
    ours = classification_metrics(count_cells(labels, probabilities), classes)
    average = "binary" if classes == 2 else "macro"
    only = None if classes == 2 else every
    assert ours["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert ours["f1"] == pytest.approx(f1_score(labels, predictions, labels=only, average=average, zero_division=0))
    assert ours["log_loss"] == pytest.approx(log_loss(labels, probabilities, labels=every))


def test_a_class_that_is_neither_there_nor_predicted_counts_as_none_right():
    cells = [{"label": c, "prediction": c, "rows": 5, "log_loss": 0.0} for c in (0, 2)]
    assert classification_metrics(cells, 3) == {"accuracy": 1.0, "f1": pytest.approx(2 / 3), "log_loss": 0.0}


def test_the_order_of_cells_does_not_matter():
    rng = np.random.default_rng(1)
    cells = count_cells(rng.integers(3, size=50), rng.dirichlet(np.ones(3), size=50))
    assert classification_metrics(cells, 3) == classification_metrics(cells[::-1], 3)


def test_a_constant_truth_has_no_r2():
    metrics = _regression_metrics({"mse": 4.0, "mae": 2.0, "variance": 0.0})
    assert math.isnan(metrics["r2"])
    assert metrics["rmse"] == 2.0
