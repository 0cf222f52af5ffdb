"""The features of the featurize run, as the later stages ask for them."""

from __future__ import annotations

from collections.abc import Sequence

from retune.features.base import Feature
from retune.handoff import FEATURE_LIST, Stage


def read_features(stage: Stage) -> list[Feature]:
    """Return them in the order of their slots."""
    return [Feature(**each) for each in stage.artifact("featurize", FEATURE_LIST)["features"]]


def has_bags(features: list[Feature]) -> bool:
    """Tell whether vectors are so wide that they are sparse wherever they are."""
    return any(feature.kind == "bag" for feature in features)


def name_importances(importances: Sequence[float] | None, features: list[Feature]) -> dict[str, float]:
    """Return importances by the names of their slots, adding up to 1.

    Args:
        importances: As `Trainer.importances` gives them: one a slot, or None.
        features: Of which the slots are.

    Returns:
        Nothing where there are none, or all are zero.
    """
    total = sum(importances) if importances is not None else 0
    if importances is None or not total:
        return {}
    names = (name for feature in features for name in feature.slots)
    return {name: float(value / total) for name, value in zip(names, importances, strict=True)}
