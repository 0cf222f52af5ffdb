"""What the trainers of XGBoost share."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _find_package() -> str:
    try:
        version("xgboost-cpu")
    except PackageNotFoundError:
        return "xgboost"
    return "xgboost-cpu"


PACKAGE = _find_package()
"""Which of two packages the module is from: the small one without code for GPUs, or the whole."""
