"""What both trainers of XGBoost share."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package() -> str:
    """Return which of two packages the module is from: the small one without code for GPUs, or the whole."""
    try:
        version("xgboost-cpu")
    except PackageNotFoundError:
        return "xgboost"
    return "xgboost-cpu"
