"""Settings that share a fit: which do, that scores are those of fits of their own, and that no fit is made twice."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark import SparkFiles
from scipy import sparse
from unit.experiments import build_experiment

from retune.data.table import Table, TableFiles, write_table
from retune.experiment import Experiment
from retune.placements.shared_fits import Scores, SharedFits, find_families, follow_fits
from retune.placements.task_trial import TaskTrial, try_fold, try_rounds
from retune.trainers import load_trainer

CLASSES = 4
ROUNDS = {"type": "choice", "options": [3, 12, 7]}
SUBSAMPLE = {"type": "choice", "options": [0.5, 1.0]}
SAMPLED: dict[str, dict[str, Any]] = {
    "xgboost": {"subsample": 0.6, "colsample_bylevel": 0.5, "colsample_bytree": 0.8, "learning_rate": 0.3},
    "lightgbm": {"bagging_fraction": 0.6, "bagging_freq": 1, "feature_fraction": 0.5, "min_child_samples": 3},
}
TIMES = {"fit_s", "score_ms_per_row"}


def grid(trainer: str = "xgboost", fixed: dict[str, Any] | None = None, **search: Any) -> Experiment:
    """Return an experiment of six settings, with the rounds first."""
    section = {
        "engine": "grid",
        "metric": "log_loss",
        "validation": {"type": "cross_validation", "folds": 3},
        "space": {"n_estimators": ROUNDS, "subsample": SUBSAMPLE},
    }
    model = {"trainer": trainer, "fixed": fixed or {}}
    return build_experiment(problem="multiclass", model=model, search=section | search)


def families(experiment: Experiment) -> dict[str, list[int]]:
    return find_families(experiment, load_trainer(experiment.model.trainer))


@pytest.fixture
def files(tmp_path, monkeypatch) -> TableFiles:
    drawn = np.random.default_rng(3)
    features = sparse.random(240, 12, 0.4, format="csr", random_state=4)
    score = np.asarray(features.sum(axis=1)).ravel()
    labels = np.digitize(score + drawn.normal(0, 0.4, 240), np.quantile(score, [0.25, 0.5, 0.75])).astype(float)
    monkeypatch.setattr(SparkFiles, "getRootDirectory", lambda: str(tmp_path))
    return write_table(Table(features, labels, np.arange(240, dtype=np.int32) % 3), Path(tmp_path), "rows")


@pytest.mark.parametrize("trainer", SAMPLED)
@pytest.mark.parametrize("fold", range(3))
def test_scores_of_a_shared_fit_are_those_of_a_fit_of_ones_own(files, trainer, fold):
    trial = TaskTrial(grid(trainer), files, list(range(CLASSES)), 1)
    scores = try_rounds(trial, {**SAMPLED[trainer], "n_estimators": 7}, fold, [3, 7, 12])
    assert scores is not None
    for rounds, shared in scores.items():
        own = try_fold(trial, {**SAMPLED[trainer], "n_estimators": rounds}, fold)
        assert own.error is None
        assert {n: v for n, v in shared.items() if n not in TIMES} == {
            n: v for n, v in own.metrics.items() if n not in TIMES
        }
    assert len({shared["validation_log_loss"] for shared in scores.values()}) == 3


def test_a_fit_that_fails_has_no_scores(files):
    trial = TaskTrial(grid(), files, list(range(CLASSES)), 1)
    assert try_rounds(trial, {"subsample": 7.0, "n_estimators": 3}, 0, [3, 7]) is None


def test_settings_that_differ_in_rounds_alone_are_a_family():
    assert families(grid()) == {'{"subsample": 0.5}': [3, 7, 12], '{"subsample": 1.0}': [3, 7, 12]}


def test_settings_beyond_the_budget_are_in_no_family():
    assert families(follow_fits(grid(max_trials=5), load_trainer("xgboost"))) == {
        '{"subsample": 0.5}': [3, 7, 12],
        '{"subsample": 1.0}': [3, 12],
    }


@pytest.mark.parametrize(
    "alone",
    [
        {"trial_timeout": "1m"},
        {"early_stopping_rounds": 5},
        {"objective": "a:b"},
        {"autolog": True},
        {"log_models": "all", "validation": "holdout"},
        {"constraints": ["model_size_mb <= 3"]},
        {"constraints": ["fit_s <= 3"]},
        {"engine": "hyperopt", "max_trials": 6},
        {"space": {"subsample": SUBSAMPLE}},
        {"fixed": {"booster": "dart"}},
        {"fixed": {"booster": "gblinear"}},
        {"trainer": "lightgbm", "fixed": {"boosting_type": "dart"}},
        {"trainer": "lightgbm", "fixed": {"boosting_type": "rf"}},
        {"trainer": "xgboost_spark"},
        {"trainer": "sklearn"},
    ],
    ids=str,
)
def test_where_a_fit_of_ones_own_may_be_another_none_is_shared(alone):
    experiment = grid(**alone)
    assert families(experiment) == {}
    assert follow_fits(experiment, load_trainer(experiment.model.trainer)) == experiment


def test_settings_of_a_family_come_one_after_another():
    moved = follow_fits(grid(), load_trainer("xgboost"))
    assert list(moved.search.space) == ["subsample", "n_estimators"]
    assert set(moved.search.space) == set(grid().search.space)


@pytest.mark.parametrize(("fits", "trials"), [(1, 1), (2, 4), (3, 3)])
def test_so_many_trials_run_that_so_many_fit(fits, trials):
    trainer = load_trainer("xgboost")
    assert SharedFits(follow_fits(grid(), trainer), trainer).trials_for(fits) == trials


class Fits:
    """Counts what is fitted; the score of a setting tells what it was."""

    def __init__(self, experiment: Experiment) -> None:
        self.shared = SharedFits(experiment, load_trainer("xgboost"))
        self.made: list[tuple[int, ...]] = []
        self.failing: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()

    def measure(self, setting: dict[str, Any], folds: Sequence[int], trial: int) -> Any:
        def fit(missing: Sequence[int], rounds: list[int]) -> list[Scores | None]:
            self.gate.wait(10)
            self.made.append(tuple(missing))
            return [None if f in self.failing else {n: {"score": n + f / 10} for n in rounds} for f in missing]

        return self.shared.measure(setting, folds, trial, fit)


def test_a_family_is_fitted_once_and_each_trial_is_told_whose_fit_it_was():
    fits = Fits(grid())
    first = fits.measure({"n_estimators": 3, "subsample": 0.5}, range(2), 0)
    second = fits.measure({"n_estimators": 12, "subsample": 0.5}, range(2), 1)
    assert first == [(0, {"score": 3.0}), (0, {"score": 3.1})]
    assert second == [(0, {"score": 12.0}), (0, {"score": 12.1})]
    fits.measure({"n_estimators": 3, "subsample": 1.0}, range(2), 2)
    assert fits.made == [(0, 1), (0, 1)]


def test_folds_in_order_are_fitted_as_they_are_asked_for():
    fits = Fits(grid())
    fits.measure({"n_estimators": 3, "subsample": 0.5}, [0], 0)
    fits.measure({"n_estimators": 12, "subsample": 0.5}, [0], 1)
    assert fits.measure({"n_estimators": 12, "subsample": 0.5}, [1], 1) == [(1, {"score": 12.1})]
    assert fits.made == [(0,), (1,)]


def test_of_trials_side_by_side_one_fits_and_the_others_wait():
    fits = Fits(grid())
    fits.gate.clear()
    settings = [{"n_estimators": n, "subsample": 0.5} for n in (3, 12, 7)]
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(fits.measure, setting, range(3), n) for n, setting in enumerate(settings)]
        fits.gate.set()
        told = [each.result(10) for each in asked]
    assert fits.made == [(0, 1, 2)]
    assert [each[0][1]["score"] for each in told] == [3, 12, 7]
    assert len({each[0][0] for each in told}) == 1


def test_after_a_fit_that_failed_each_setting_is_fitted_by_itself():
    fits = Fits(grid())
    fits.failing = {1}
    assert fits.measure({"n_estimators": 3, "subsample": 0.5}, range(3), 0) is None
    assert fits.measure({"n_estimators": 7, "subsample": 0.5}, range(3), 1) is None
    assert fits.measure({"n_estimators": 7, "subsample": 1.0}, [0], 2) is not None


def test_rounds_that_are_none_are_left_to_a_fit_of_ones_own():
    options = [5, 9, 0, -1]
    space = {"n_estimators": {"type": "choice", "options": options}, "subsample": SUBSAMPLE}
    fits = Fits(grid(space=space))
    asked = [fits.measure({"n_estimators": rounds, "subsample": 0.5}, [0], 0) for rounds in options]
    assert [each is None for each in asked] == [False, False, True, True]


def test_after_trouble_of_the_cluster_the_next_to_ask_fits():
    fits, setting = Fits(grid()), {"n_estimators": 3, "subsample": 0.5}

    def lose(missing: Sequence[int], rounds: list[int]) -> list[Scores | None]:
        raise ConnectionError("executor lost")

    with pytest.raises(ConnectionError):
        fits.shared.measure(setting, [0], 0, lose)
    assert fits.measure(setting, [0], 1) == [(1, {"score": 3.0})]
