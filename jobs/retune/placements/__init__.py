"""Where trials run and models are fitted, each behind the one interface of `retune.placements.base`."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from retune.placements.base import Placement


def load_placement(name: str) -> Placement:
    """Return the placement that lives in `retune.placements.<name>`."""
    return cast(Placement, import_module(f"retune.placements.{name}"))
