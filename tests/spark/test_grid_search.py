"""A cross-validated grid in Spark tasks: against scikit-learn's `GridSearchCV`; folds side by side; shared fits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pyspark import InheritableThread
from scipy import sparse
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from xgboost import XGBClassifier

from retune.data.table import Table
from retune.experiment import Experiment
from retune.metrics import METRICS
from retune.placements.shared_fits import SharedFits, follow_fits
from retune.placements.task import FIT_OF_TRIAL, TaskObjective, choose_parallel, folds_at_once, trials_to_fill
from retune.placements.task_rows import shared
from retune.placements.task_trial import TaskTrial
from retune.search.engine import build_engine
from retune.search.loop import run_search
from retune.search.plan import Plan, Result
from retune.search.stopping import Budget
from retune.search.trial import Attempt, Pruned, Trial, TrialFailed
from retune.search.watchdog import TrialTimeout, Watchdog
from retune.trainers import load_trainer

CLASSES, FOLDS, ROWS = 12, 4, 360
FIXED = {"max_depth": 4, "reg_alpha": 0.01, "reg_lambda": 1, "colsample_bytree": 1, "learning_rate": 0.5,
         "objective": "multi:softprob"}  # fmt: skip
GRID: dict[str, list[Any]] = {"n_estimators": [5, 60], "colsample_bylevel": [0.3, 1], "subsample": [0.5, 1.0]}
SPACE = {name: {"type": "choice", "options": options} for name, options in GRID.items()}


def plant() -> Table:
    """Rows of 12 classes in mostly empty columns; single ones can be told for sure, so that some are told wrong so."""
    drawn = np.random.default_rng(5)
    features = sparse.random(ROWS, 25, 0.25, format="csr", random_state=6)
    labels = ((features[:, :6].toarray() > 0) @ (2 ** np.arange(6)) + drawn.integers(0, 2, ROWS)) % CLASSES
    parts = np.empty(ROWS, np.int32)
    for label in range(CLASSES):
        of_class = np.flatnonzero(labels == label)
        parts[of_class] = np.arange(len(of_class)) % FOLDS
    return Table(features, labels.astype(float), parts)


def densify(table: Table) -> Table:
    """Return the table with an array of features, where some are missing."""
    features = table.features.toarray()
    features[features == 0] = np.nan
    return replace(table, features=features)


@pytest.fixture(scope="module")
def build_grid(build_experiment):
    def build(fixed: dict[str, Any] | None = None, folds: dict[str, Any] | None = None, **search: Any) -> Experiment:
        section = {
            "engine": "grid", "metric": "log_loss", "space": SPACE,
            "validation": {"type": "cross_validation", "folds": FOLDS, **(folds or {})},
        }  # fmt: skip
        model = {"trainer": "xgboost", "fixed": FIXED | (fixed or {})}
        experiment = build_experiment("multiclass", model=model, search=section | search)
        return follow_fits(experiment, load_trainer("xgboost"))

    return build


@pytest.fixture(scope="module")
def open_objective(spark):
    @contextmanager
    def open_it(experiment: Experiment, table: Table | None = None) -> Iterator[TaskObjective]:
        with shared(spark, table or plant(), f"grid-{time.time_ns()}") as files:
            trial = TaskTrial(experiment, files, list(range(CLASSES)), 1)
            yield TaskObjective(spark, trial, SharedFits(experiment, load_trainer("xgboost")), slots=2)

    return open_it


class Keep:
    """A tracker that keeps what trials ended with."""

    def __init__(self) -> None:
        self.ended: list[Trial] = []

    def start(self, number: int, setting: Any) -> str:
        return str(number)

    def end(self, trial: Trial) -> None:
        self.ended.append(trial)

    def report(self, step: int, progress: dict[str, float]) -> None:
        pass


def search(experiment: Experiment, objective: Any, parallel: int = 1, history: tuple[Trial, ...] = ()) -> Result:
    plan = Plan(METRICS["log_loss"], Budget(experiment.search.trials), parallel=parallel, thread=InheritableThread)
    return run_search(build_engine(experiment.search), objective, Keep(), plan, history)


def by_setting(result: Result) -> dict[Any, dict[str, float]]:
    times = ("fit_s", "score_ms_per_row", FIT_OF_TRIAL)
    return {
        tuple(sorted(trial.setting.items())): {n: v for n, v in trial.metrics.items() if not n.startswith(times)}
        for trial in result.trials
    }


@pytest.mark.parametrize("form", ["sparse", "dense"])
def test_scores_are_those_of_grid_search_cv(build_grid, open_objective, form):
    table = plant() if form == "sparse" else densify(plant())
    experiment = build_grid()
    with open_objective(experiment, table) as objective:
        result = search(experiment, objective, parallel=3)
    theirs = GridSearchCV(
        XGBClassifier(random_state=experiment.search.seed, n_jobs=1, **FIXED),
        GRID,
        scoring="neg_log_loss",
        cv=PredefinedSplit(table.parts),
    ).fit(table.features, table.labels)
    assert len(result.trials) == len(theirs.cv_results_["params"]) == 8
    for trial in result.trials:
        index = theirs.cv_results_["params"].index(trial.setting)
        for fold in range(FOLDS):
            wanted = -theirs.cv_results_[f"split{fold}_test_score"][index]
            assert trial.metrics[f"fold_{fold}_validation_log_loss"] == pytest.approx(wanted, abs=1e-6)
        assert trial.metrics["validation_log_loss"] == pytest.approx(
            -theirs.cv_results_["mean_test_score"][index], abs=1e-6
        )
    assert result.best.setting == theirs.best_params_


def test_shared_fits_change_no_score_and_each_trial_tells_whose_it_was(build_grid, open_objective):
    experiment, alone = build_grid(), build_grid(trial_timeout="10m")
    with open_objective(experiment) as objective:
        together = search(experiment, objective, parallel=4)
    with open_objective(alone) as objective:
        separate = search(alone, objective, parallel=2)
    assert by_setting(together) == by_setting(separate)
    assert not any(FIT_OF_TRIAL in trial.metrics for trial in separate.trials)
    makers = [trial.metrics.get(FIT_OF_TRIAL, trial.number) for trial in together.trials]
    assert len(set(makers)) == 4
    for first, second in zip(makers[::2], makers[1::2], strict=True):
        assert first == second  # settings of a family are neighbours, whatever the order of the file


def test_a_family_told_by_half_goes_on_after_a_kill(build_grid, open_objective):
    experiment = build_grid()
    with open_objective(experiment) as objective:
        whole = search(experiment, objective)
    with open_objective(experiment) as objective:
        resumed = search(experiment, objective, history=tuple(whole.trials[:3]))
    assert by_setting(resumed) == by_setting(whole)
    assert FIT_OF_TRIAL not in resumed.trials[3].metrics  # the scores of trial 2's fit were lost with the process


def test_pruned_trials_share_their_fits_too(build_grid, open_objective):
    rounds_last = {name: SPACE[name] for name in reversed(SPACE)}  # what is pruned hangs on the order
    experiment, alone = (build_grid(folds={"prune": True}, space=rounds_last, **x) for x in ({}, {"trial_timeout": 60}))
    with open_objective(experiment) as objective:
        result = search(experiment, objective)
    with open_objective(alone) as objective:
        separate = search(alone, objective)
    assert by_setting(result) == by_setting(separate)
    assert [trial.kept_out for trial in result.trials] == [trial.kept_out for trial in separate.trials]
    assert any(trial.kept_out for trial in result.trials)


def test_folds_stay_in_order_where_there_are_bars(build_grid, open_objective):
    experiment = build_grid(folds={"prune": True})
    good = [Trial(n, {}, "", 0.0, {f"fold_{f}_validation_log_loss": 0.001 for f in range(FOLDS)}) for n in range(5)]
    with open_objective(experiment) as objective, pytest.raises(Pruned, match="after 2 folds") as raised:
        objective({"n_estimators": 5, "colsample_bylevel": 1, "subsample": 1.0}, Attempt(earlier=good))
    assert sorted(raised.value.metrics) == ["fold_0_validation_log_loss", "fold_1_validation_log_loss"]


def test_a_bad_setting_fails_with_its_own_error(build_grid, open_objective):
    experiment = build_grid(fixed={"tree_method": "none of these"})
    with open_objective(experiment) as objective, pytest.raises(TrialFailed, match="none of these"):
        objective({"n_estimators": 5, "colsample_bylevel": 1, "subsample": 1.0}, Attempt())


def test_folds_of_a_trial_run_side_by_side(spark, build_grid, open_objective):
    experiment = build_grid(trial_timeout="10m")
    jobs = spark.sparkContext.statusTracker()
    setting = {"n_estimators": 60, "colsample_bylevel": 1, "subsample": 1.0}
    with open_objective(experiment) as objective:
        spark.sparkContext.setJobGroup("folds", "folds")
        objective(setting, Attempt())
    [job] = jobs.getJobIdsForGroup("folds")
    [stage] = jobs.getJobInfo(job).stageIds
    assert jobs.getStageInfo(stage).numTasks == FOLDS


def test_the_watchdog_ends_all_folds_of_a_trial(spark, build_grid, open_objective):
    experiment = build_grid(trial_timeout="10m", space=SPACE | {"n_estimators": {"type": "choice", "options": [10**6]}})
    setting = {"n_estimators": 10**6, "colsample_bylevel": 1, "subsample": 1.0}
    context = spark.sparkContext

    def grouped() -> dict[str, float]:
        context.setJobGroup("watched", "watched", interruptOnCancel=True)
        return objective(setting, Attempt())

    watchdog = Watchdog(3.0, lambda: context.cancelJobGroup("watched"), thread=InheritableThread)
    with open_objective(experiment) as objective:
        with pytest.raises(TrialTimeout):
            watchdog.run(grouped)
        assert not any(
            context.statusTracker().getJobInfo(job).status == "RUNNING"
            for job in context.statusTracker().getJobIdsForGroup("watched")
        )
        objective.warm_up()  # as many workers as were lost
        assert "validation_log_loss" in objective({**setting, "n_estimators": 2}, Attempt())


@pytest.mark.parametrize(
    ("slots", "folds", "fill"), [(2, 1, 2), (8, 1, 8), (2, 5, 2), (8, 5, 3), (40, 5, 9), (500, 5, 101)]
)
def test_as_many_trials_run_as_fill_the_slots(slots, folds, fill):
    assert trials_to_fill(slots, folds) == fill
    assert choose_parallel(None, slots, fill) == fill


def test_a_trial_that_prunes_has_one_fold_at_a_time(build_grid):
    assert folds_at_once(build_grid().search) == FOLDS
    assert folds_at_once(build_grid(folds={"prune": True}).search) == 1
    assert folds_at_once(build_grid(validation="holdout").search) == 1
