"""The sweep of a cross-validated search, line by line."""

import csv
import io

import numpy as np
import pytest
from sklearn.metrics import get_scorer

from retune.metrics import METRICS, Metric
from retune.plots import plot_sweep
from retune.search.trial import Trial
from retune.sweep import name_settings, score_settings, scorer_name, write_csv, write_text

LOG_LOSS = METRICS["log_loss"]


def trial(number: int, losses: list[float], setting: dict | None = None, **more) -> Trial:
    metrics = {f"fold_{fold}_validation_log_loss": value for fold, value in enumerate(losses)} | {"fit_s": 0.5}
    return Trial(number, setting or {"subsample": 0.5, "n_estimators": 400}, "", None, metrics, **more)


TRIALS = [
    trial(0, [2.3, 2.4]),
    trial(1, [2.1, 2.5], {"kind": {"b": 1, "a": "x, y"}}),
    trial(2, [], error="ValueError: no such\nTraceback …"),
    trial(3, [2.9], kept_out="pruned: worse than the median"),
    trial(4, [2.0, 2.2], kept_out="fit_s is 3, not <= 2"),
]
SCORES = score_settings(TRIALS, LOG_LOSS, folds=2)


def test_the_text_has_the_metric_and_a_line_for_each_setting():
    assert write_text(SCORES, "neg_log_loss").splitlines() == [
        "metric =  neg_log_loss",
        "mean: -2.35000, std: 0.05000, params: {'n_estimators': 400, 'subsample': 0.5}",
        "mean: -2.30000, std: 0.20000, params: {'a': 'x, y', 'b': 1}",
        "mean: nan, std: nan, params: {'n_estimators': 400, 'subsample': 0.5}, failed: ValueError: no such",
        "mean: nan, std: nan, params: {'n_estimators': 400, 'subsample': 0.5}, pruned: worse than the median",
        "mean: -2.10000, std: 0.10000, params: {'n_estimators': 400, 'subsample': 0.5}, fit_s is 3, not <= 2",
    ]


def test_the_table_has_folds_and_parameters():
    rows = list(csv.DictReader(io.StringIO(write_csv(SCORES, folds=2))))
    assert rows[0] == {
        "trial": "0",
        "mean": "-2.3499999999999996",
        "std": "0.050000000000000044",
        "fold_0": "-2.3",
        "fold_1": "-2.4",
        "param_a": "",
        "param_b": "",
        "param_n_estimators": "400",
        "param_subsample": "0.5",
        "fit_s": "0.5",
        "note": "",
    }
    assert rows[1]["param_a"] == "x, y"
    assert (rows[2]["mean"], rows[2]["fold_0"], rows[2]["note"]) == ("", "", "failed: ValueError: no such")


@pytest.mark.parametrize("problem", ["regression", "binary", "multiclass"])
@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_scorers_are_scikit_learns_and_higher_is_better(metric: Metric, problem):
    if metric.for_classes == (problem == "regression"):
        return
    scorer = get_scorer(scorer_name(metric, problem))
    assert (scorer._sign == 1) == metric.maximize
    [score] = score_settings([Trial(0, {}, "", None, {f"fold_0_validation_{metric.name}": 0.25})], metric, 1)
    assert score.mean == scorer._sign * 0.25


def test_settings_are_named_by_what_differs():
    scores = score_settings([trial(n, [1.0], {"a": 1, "b": n, "c": n % 2 == 0}) for n in range(3)], LOG_LOSS, 1)
    assert name_settings(scores) == ["b 0, c True", "b 1, c False", "b 2, c True"]


@pytest.mark.parametrize("settings", [0, 1, 8, 120])
def test_each_setting_has_a_point_in_the_figure_and_the_best_is_first(settings):
    drawn = np.random.default_rng(1).normal(2.3, 0.1, (settings, 5))
    trials = [trial(n, list(losses), {"n_estimators": n}) for n, losses in enumerate(drawn)]
    figure = plot_sweep(score_settings([*trials, TRIALS[2]], LOG_LOSS, 5), "neg_log_loss")
    [axes] = figure.axes
    [points] = [container.lines[0] for container in axes.containers]
    means = points.get_ydata() if settings > 40 else points.get_xdata()
    np.testing.assert_allclose(np.asarray(means, float), np.sort(-drawn.mean(axis=1))[::-1])
    assert axes.get_title().startswith(f"{settings} of {settings + 1} settings")
