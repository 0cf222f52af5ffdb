"""Model families, each behind the one interface of `retune.trainers.base`."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from retune.trainers.base import Trainer


def load_trainer(name: str) -> Trainer:
    """Return the trainer that lives in `retune.trainers.<name>`; its library is imported only now."""
    return cast(Trainer, import_module(f"retune.trainers.{name}").TRAINER)
