"""What the trainers of LightGBM share: https://lightgbm.readthedocs.io/en/stable/Parameters.html."""

from __future__ import annotations

from collections.abc import Mapping

from retune.metrics import Problem
from retune.trainers._parameters import SHARE, Range, above, at_least, one_of, within

_RANGES: dict[str, Range] = {
    "boosting_type": one_of("gbdt", "gbrt", "rf", "random_forest", "dart", "goss", any_case=True),
    "num_leaves": within(2, 131_072),
    "learning_rate": above(0),
    "num_iterations": at_least(1),
    "bagging_fraction": SHARE,
    "feature_fraction": SHARE,
    "feature_fraction_bynode": SHARE,
    "lambda_l1": at_least(0),
    "lambda_l2": at_least(0),
    "min_data_in_leaf": at_least(0),
    "min_sum_hessian_in_leaf": at_least(0),
    "min_gain_to_split": at_least(0),
    "max_bin": at_least(2),
    "path_smooth": at_least(0),
    "cat_smooth": at_least(0),
    "cat_l2": at_least(0),
    "max_cat_threshold": at_least(1),
    "drop_rate": within(0, 1),
    "top_rate": within(0, 1),
    "other_rate": within(0, 1),
    "alpha": above(0),
    "scale_pos_weight": above(0),
}
# With their aliases; those that predict something else than the problem asks for are left out.
_OBJECTIVES: dict[Problem, tuple[str, ...]] = {
    "regression": (
        *("regression", "regression_l2", "l2", "mean_squared_error", "mse", "l2_root", "root_mean_squared_error"),
        *("rmse", "regression_l1", "l1", "mean_absolute_error", "mae", "huber", "fair", "poisson", "quantile"),
        *("mape", "mean_absolute_percentage_error", "gamma", "tweedie", "cross_entropy", "xentropy"),
        *("cross_entropy_lambda", "xentlambda"),
    ),
    "binary": ("binary", "cross_entropy", "xentropy"),
    "multiclass": ("multiclass", "softmax", "multiclassova", "multiclass_ova", "ova", "ovr"),
}


def ranges(problem: Problem) -> Mapping[str, Range]:
    """Return what LightGBM's documentation says of parameters, by its own names; see `Trainer`."""
    return {**_RANGES, "objective": one_of(*_OBJECTIVES[problem], any_case=True)}
