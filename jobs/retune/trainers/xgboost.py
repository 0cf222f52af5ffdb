"""XGBoost on one machine, by its scikit-learn interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import VotingClassifier
from xgboost import XGBClassifier, XGBRegressor

from retune.data.table import Table
from retune.metrics import Problem
from retune.space import Parameters
from retune.trainers._parameters import Range
from retune.trainers._xgboost import PACKAGE, ranges, whole
from retune.trainers.base_task import FirstRounds, Report, TaskTrainer, unwrap

_OURS = frozenset(("random_state", "n_jobs", "missing", "callbacks", "early_stopping_rounds", "eval_metric"))


class XGBoost(TaskTrainer):
    """`XGBRegressor` and `XGBClassifier`; a category is an ordered number to it."""

    name = "xgboost"
    mlflow_flavor = "xgboost"
    requirements = ("mlflow", "scikit-learn", PACKAGE, "numpy", "pandas")
    rounds_parameter = "n_estimators"
    takes_infinity = False

    def defaults(self, problem: Problem) -> Mapping[str, object]:
        """Return the estimator's parameters; most have no default of their own."""
        known = _kind(problem)().get_params()
        # The two that early stopping and `space` hang on are whole numbers, though they have no default here.
        return {
            **{name: value for name, value in known.items() if name not in _OURS},
            "n_estimators": 100,
            "max_depth": 6,
        }

    def ranges(self, problem: Problem) -> Mapping[str, Range]:
        """Return what XGBoost's documentation says; see `Trainer`."""
        return ranges(problem)

    def estimator(self, parameters: Parameters, problem: Problem, seed: int, threads: int) -> Any:
        """Return the estimator; see `TaskTrainer`."""
        return _kind(problem)(**{"random_state": seed % 2**31, "n_jobs": threads, "verbosity": 0, **whole(parameters)})

    def _fit(
        self, estimator: Any, table: Table, watched: Table | None, patience: int | None, report: Report | None
    ) -> Any:
        if watched is not None and patience:
            estimator.set_params(early_stopping_rounds=patience)
            return estimator.fit(
                table.features, table.labels, eval_set=[(watched.features, watched.labels)], verbose=False
            )
        if isinstance(estimator, XGBClassifier) and not np.issubdtype(table.labels.dtype, np.floating):
            # XGBoost knows classes by numbers only; a vote of one turns any into such, and back.
            estimator = VotingClassifier([("xgboost", estimator)], voting="soft")
        return estimator.fit(table.features, table.labels)

    def rounds(self, model: Any) -> int:
        """Return the best iteration, counted from 1; see `TaskTrainer`."""
        best = getattr(model, "best_iteration", None) if model.early_stopping_rounds else None
        return int(model.get_booster().num_boosted_rounds() if best is None else best + 1)

    def can_cut(self, parameters: Parameters) -> bool:
        """Trees alone: `dart` weighs earlier ones anew in each round, and so does `gblinear`; see `TaskTrainer`."""
        return parameters.get("booster") in (None, "gbtree")

    def cut(self, model: Any, rounds: int) -> FirstRounds:
        """Return what predicts by the first rounds; see `TaskTrainer`."""
        return FirstRounds(model, iteration_range=(0, rounds))

    def importances(self, model: Any) -> Sequence[float] | None:
        """Return the gain of all splits; XGBoost's default, that of a split on average, is high where few are made."""
        fitted = unwrap(model)
        if fitted.booster == "gblinear":
            return None
        gains = fitted.get_booster().get_score(importance_type="total_gain")
        return [float(gains.get(f"f{slot}", 0.0)) for slot in range(fitted.n_features_in_)]


def _kind(problem: Problem) -> Any:
    return XGBRegressor if problem == "regression" else XGBClassifier


TRAINER = XGBoost()
