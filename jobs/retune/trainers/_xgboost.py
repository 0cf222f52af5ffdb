"""What the trainers of XGBoost share."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from retune.metrics import Problem
from retune.trainers._parameters import SHARE, Range, at_least, count, one_of


def _find_package() -> str:
    try:
        version("xgboost-cpu")
    except PackageNotFoundError:
        return "xgboost"
    return "xgboost-cpu"


# https://xgboost.readthedocs.io/en/stable/parameter.html
_RANGES = {
    "booster": one_of("gbtree", "gblinear", "dart"),
    "n_estimators": count(1),
    "max_depth": count(0),
    "max_leaves": count(0),
    "max_bin": count(2),
    "learning_rate": at_least(0),
    "gamma": at_least(0),
    "min_child_weight": at_least(0),
    "max_delta_step": at_least(0),
    "subsample": SHARE,
    "colsample_bytree": SHARE,
    "colsample_bylevel": SHARE,
    "colsample_bynode": SHARE,
    "reg_alpha": at_least(0),
    "reg_lambda": at_least(0),
    "num_parallel_tree": count(1),
    "grow_policy": one_of("depthwise", "lossguide"),
    "tree_method": one_of("auto", "exact", "approx", "hist"),
    "sampling_method": one_of("uniform", "gradient_based"),
}
# Those that learn from one number a row; for classes, those whose predictions are probabilities.
_OBJECTIVES: dict[Problem, tuple[str, ...]] = {
    "regression": (
        "reg:squarederror",
        "reg:squaredlogerror",
        "reg:logistic",
        "reg:pseudohubererror",
        "reg:absoluteerror",
        "reg:quantileerror",
        "reg:gamma",
        "reg:tweedie",
        "count:poisson",
        "survival:cox",
    ),
    "binary": ("binary:logistic", "reg:logistic", "binary:hinge"),
    "multiclass": ("multi:softprob", "multi:softmax", "binary:logistic"),  # the last is a default that XGBoost mends
}


def ranges(problem: Problem) -> Mapping[str, Range]:
    """Return what XGBoost's documentation says of parameters; see `Trainer`."""
    return {**_RANGES, "objective": one_of(*_OBJECTIVES[problem])}


def whole(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with 6 for 6.0: XGBoost's own parser takes no fraction for a whole number, but 1 for any."""
    return {n: int(v) if isinstance(v, float) and v.is_integer() else v for n, v in parameters.items()}


PACKAGE = _find_package()
"""Which of two packages the module is from: the small one without code for GPUs, or the whole."""
