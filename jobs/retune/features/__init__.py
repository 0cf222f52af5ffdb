"""What models see of the raw rows, each pipeline behind the one interface of `retune.features.base`."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from retune.features.base import FeaturePipeline


def load_features(pipeline: str) -> FeaturePipeline:
    """Return the pipeline that lives in `retune.features.<pipeline>`."""
    return cast(FeaturePipeline, import_module(f"retune.features.{pipeline}"))
