"""The metrics a search can optimise: what problem each belongs to and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Problem = Literal["regression", "binary", "multiclass"]
MetricName = Literal["r2", "rmse", "mse", "mae", "accuracy", "f1", "auc", "log_loss"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: As the experiment file and MLflow spell it.
        maximize: Whether higher is better.
        for_classes: True for classification, False for regression.
    """

    name: MetricName
    maximize: bool
    for_classes: bool

    def loss(self, value: float) -> float:
        """Return `value` as a loss: lower is better."""
        return -value if self.maximize else value

    def gain(self, value: float, over: float) -> float:
        """Return by how much `value` is better than `over`; negative when it is worse."""
        return self.loss(over) - self.loss(value)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("r2", maximize=True, for_classes=False),
        Metric("rmse", maximize=False, for_classes=False),
        Metric("mse", maximize=False, for_classes=False),
        Metric("mae", maximize=False, for_classes=False),
        Metric("accuracy", maximize=True, for_classes=True),
        Metric("f1", maximize=True, for_classes=True),
        Metric("auc", maximize=True, for_classes=True),
        Metric("log_loss", maximize=False, for_classes=True),
    )
}


def metrics_for(problem: Problem) -> list[str]:
    """Return the names of the metrics that are defined for `problem`."""
    return [name for name, metric in METRICS.items() if metric.for_classes == (problem != "regression")]
