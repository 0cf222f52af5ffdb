"""What the trainers of LightGBM share: https://lightgbm.readthedocs.io/en/stable/Parameters.html."""

from __future__ import annotations

from retune.metrics import Problem
from retune.trainers._parameters import one_of

BOOSTING = one_of("gbdt", "gbrt", "rf", "random_forest", "dart", "goss")
# With their aliases; those that predict something else than the problem asks for are left out.
OBJECTIVES: dict[Problem, tuple[str, ...]] = {
    "regression": (
        *("regression", "regression_l2", "l2", "mean_squared_error", "mse", "l2_root", "root_mean_squared_error"),
        *("rmse", "regression_l1", "l1", "mean_absolute_error", "mae", "huber", "fair", "poisson", "quantile"),
        *("mape", "mean_absolute_percentage_error", "gamma", "tweedie", "cross_entropy", "xentropy"),
        *("cross_entropy_lambda", "xentlambda"),
    ),
    "binary": ("binary", "cross_entropy", "xentropy"),
    "multiclass": ("multiclass", "softmax", "multiclassova", "multiclass_ova", "ova", "ovr"),
}
