"""The metrics: which belongs to which problem, and which way is better."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retune.metrics import METRICS, MetricName, metrics_for

VALUES = st.floats(-1000, 1000)
ANY_METRIC = st.sampled_from(list(METRICS.values()))


def test_every_name_an_experiment_may_say_is_a_metric():
    assert set(METRICS) == set(get_args(MetricName))
    assert all(name == metric.name for name, metric in METRICS.items())


@pytest.mark.parametrize(
    ("problem", "names"),
    [
        ("regression", ["r2", "rmse", "mse", "mae"]),
        ("binary", ["accuracy", "f1", "auc", "log_loss"]),
        ("multiclass", ["accuracy", "f1", "auc", "log_loss"]),
    ],
)
def test_each_problem_has_its_metrics(problem, names):
    assert metrics_for(problem) == names


@pytest.mark.parametrize("name", ["r2", "accuracy", "f1", "auc"])
def test_more_is_better(name):
    assert METRICS[name].loss(0.9) < METRICS[name].loss(0.8)


@pytest.mark.parametrize("name", ["rmse", "mse", "mae", "log_loss"])
def test_less_is_better(name):
    assert METRICS[name].loss(0.8) < METRICS[name].loss(0.9)


@given(ANY_METRIC, VALUES, VALUES)
def test_a_gain_is_positive_exactly_when_the_loss_is_less(metric, value, other):
    assert (metric.gain(value, over=other) > 0) == (metric.loss(value) < metric.loss(other))
    assert metric.gain(value, over=other) == -metric.gain(other, over=value)
    assert abs(metric.gain(value, over=other)) == abs(value - other)
