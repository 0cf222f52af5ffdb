"""LightGBM on one machine, by its scikit-learn interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightgbm import LGBMClassifier, LGBMRegressor, early_stopping

from retune.data.table import Table
from retune.errors import BadInput
from retune.metrics import Problem
from retune.space import Parameters
from retune.trainers._lightgbm import ranges
from retune.trainers._parameters import Given, Range
from retune.trainers.base_task import FirstRounds, Report, TaskTrainer, unwrap

_OURS = frozenset(("random_state", "n_jobs", "class_weight"))
# https://lightgbm.readthedocs.io/en/stable/Parameters.html, with its defaults.
_FURTHER: dict[str, object] = {
    "bagging_fraction": 1.0,
    "bagging_freq": 0,
    "feature_fraction": 1.0,
    "feature_fraction_bynode": 1.0,
    "lambda_l1": 0.0,
    "lambda_l2": 0.0,
    "min_data_in_leaf": 20,
    "min_sum_hessian_in_leaf": 1e-3,
    "min_gain_to_split": 0.0,
    "max_bin": 255,
    "max_delta_step": 0.0,
    "path_smooth": 0.0,
    "extra_trees": False,
    "linear_tree": False,
    "cat_smooth": 10.0,
    "cat_l2": 10.0,
    "max_cat_threshold": 32,
    "drop_rate": 0.1,
    "top_rate": 0.2,
    "other_rate": 0.1,
    "alpha": 0.9,
    "scale_pos_weight": 1.0,
    "is_unbalance": False,
}
_SPELLINGS = {
    "num_iterations": "n_estimators",
    "bagging_fraction": "subsample",
    "bagging_freq": "subsample_freq",
    "feature_fraction": "colsample_bytree",
    "lambda_l1": "reg_alpha",
    "lambda_l2": "reg_lambda",
    "min_data_in_leaf": "min_child_samples",
    "min_sum_hessian_in_leaf": "min_child_weight",
    "min_gain_to_split": "min_split_gain",
}
"""LightGBM's name of a parameter that its scikit-learn interface calls otherwise."""


class LightGBM(TaskTrainer):
    """`LGBMRegressor` and `LGBMClassifier`; missing values and categories are LightGBM's own business."""

    name = "lightgbm"
    mlflow_flavor = "lightgbm"
    requirements = ("mlflow", "scikit-learn", "lightgbm", "numpy", "pandas")
    rounds_parameter = "n_estimators"

    def defaults(self, problem: Problem) -> Mapping[str, object]:
        """Return the estimator's parameters and LightGBM's own further ones that are often tuned."""
        known = {name: value for name, value in _kind(problem)().get_params().items() if name not in _OURS}
        return {**known, **_FURTHER}

    def ranges(self, problem: Problem) -> Mapping[str, Range]:
        """Return what LightGBM's documentation says; see `Trainer`."""
        own = ranges(problem)
        return {**own, **{other: own[name] for name, other in _SPELLINGS.items() if name in own}}

    def check_given(self, given: Sequence[Given], problem: Problem) -> None:
        """Check that each parameter goes by one name, too; see `Trainer`.

        Of two, LightGBM would take one and say so in a warning that no search shows.
        """
        super().check_given(given, problem)
        spelt: dict[str, tuple[str, str]] = {}
        for section, name, _ in given:
            where, other = spelt.setdefault(_SPELLINGS.get(name, name), (section, name))
            if other != name:
                raise BadInput(f"{section}.{name}: is {where}.{other} by another name; use one name")

    def estimator(self, parameters: Parameters, problem: Problem, seed: int, threads: int) -> Any:
        """Return the estimator; see `TaskTrainer`."""
        # Without these two, the sums that gradients are added up in hang on timing.
        given = {"random_state": seed % 2**31, "n_jobs": threads, "deterministic": True, "force_row_wise": True}
        return _kind(problem)(**{**given, "verbosity": -1, **parameters})

    def _fit(
        self, estimator: Any, table: Table, watched: Table | None, patience: int | None, report: Report | None
    ) -> Any:
        further: dict[str, Any] = {"categorical_feature": list(table.categories)} if table.categories else {}
        if watched is not None and patience:
            further["eval_X"], further["eval_y"] = watched.features, watched.labels
            further["callbacks"] = [early_stopping(patience, verbose=False)]
        return estimator.fit(table.features, table.labels, **further)

    def rounds(self, model: Any) -> int:
        """Return the best iteration, counted from 1; see `TaskTrainer`."""
        return int(model.best_iteration_ or model.n_estimators_)

    def can_cut(self, parameters: Parameters) -> bool:
        """Neither `dart`, which weighs earlier trees anew in each round, nor `rf`; see `TaskTrainer`."""
        return parameters.get("boosting_type", "gbdt") in ("gbdt", "goss")

    def cut(self, model: Any, rounds: int) -> FirstRounds:
        """Return what predicts by the first rounds; see `TaskTrainer`."""
        return FirstRounds(model, num_iteration=rounds)

    def importances(self, model: Any) -> Sequence[float] | None:
        """Return gains, where the scikit-learn interface would count splits; see `Trainer`."""
        return list(unwrap(model).booster_.feature_importance(importance_type="gain"))


def _kind(problem: Problem) -> Any:
    return LGBMRegressor if problem == "regression" else LGBMClassifier


TRAINER = LightGBM()
