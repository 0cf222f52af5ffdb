"""The metrics of predictions held in arrays; the same, by name and value, as `retune.evaluation` takes on Spark."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics

from retune.metrics import Problem


def score_model(
    model: Any, features: Any, labels: np.ndarray, problem: Problem, classes: int, metric: str
) -> dict[str, float]:
    """Return every metric of the problem.

    Args:
        model: An estimator with scikit-learn's interface, fitted to labels 0, 1, … for classes.
        features: Of shape (rows, features).
        labels: Of shape (rows,).
        problem: What kind of predictions.
        classes: How many classes; 0 for regression.
        metric: The one that is asked for: `auc` takes sorting, so it is left out else.
    """
    if problem == "regression":
        return _score_regression(labels, np.asarray(model.predict(features), dtype=np.float64))
    predicted, probability = predict_classes(model, features, classes)
    scores = _score_classes(labels.astype(int), predicted, probability, classes)
    return scores | ({"auc": _area(labels, probability, classes)} if metric == "auc" else {})


def predict_classes(model: Any, features: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted classes, of shape (rows,), and their probabilities, of shape (rows, classes).

    Of a model that has no probabilities, the predicted class has all of it.
    """
    if not hasattr(model, "predict_proba"):
        predicted = np.asarray(model.predict(features)).astype(int)
        return predicted, np.eye(classes)[predicted]
    known = np.asarray(model.classes_).astype(int)  # a fold may lack a class
    found = np.asarray(model.predict_proba(features))
    probability = np.zeros((features.shape[0], classes), found.dtype)
    probability[:, known] = found
    return probability.argmax(axis=1), probability


def _score_regression(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    mse = float(metrics.mean_squared_error(labels, predicted)) if np.isfinite(predicted).all() else float("nan")
    if not np.isfinite(mse):
        return dict.fromkeys(("mse", "rmse", "mae", "r2"), float("nan"))
    variance = float(np.var(labels))
    return {
        "mse": mse,
        "rmse": mse**0.5,
        "mae": float(metrics.mean_absolute_error(labels, predicted)),
        "r2": 1 - mse / variance if variance else float("nan"),
    }


def _score_classes(
    labels: np.ndarray, predicted: np.ndarray, probability: np.ndarray, classes: int
) -> dict[str, float]:
    least = np.finfo(probability.dtype).eps  # as scikit-learn clips: XGBoost's are of single precision
    own = np.clip(probability[np.arange(len(labels)), labels], least, 1 - least).astype(np.float64)
    everyone = list(range(classes))
    average: dict[str, Any] = {"average": "binary"} if classes == 2 else {"average": "macro", "labels": everyone}
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "f1": float(metrics.f1_score(labels, predicted, zero_division=0, **average)),
        "log_loss": float(-np.log(own).mean()),
    }


def _area(labels: np.ndarray, probability: np.ndarray, classes: int) -> float:
    """Return the area under the ROC curve; for more than two classes the mean of one-vs-rest areas."""
    if len(np.unique(labels)) < classes:
        return float("nan")  # of a class without a row there is no area
    each = [1] if classes == 2 else range(classes)
    return float(np.mean([metrics.roc_auc_score(labels == c, probability[:, c]) for c in each]))
