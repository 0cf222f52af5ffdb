"""What a search is to do, and what it found."""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from retune.metrics import Metric
from retune.search.stopping import Budget
from retune.search.trial import Trial
from retune.space import Setting

Constraint: TypeAlias = tuple[str, str, float]
"""A measure, `<=` or `>=`, and a bound."""
_RELATIONS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Plan:
    """What a search is to do.

    Attributes:
        metric: What is optimised, on rows that no trial is fitted to.
        budget: When to stop.
        points: Settings that are tried first, as trials 0, 1, ….
        queue: How many settings are proposed at once, from the same history.
        infra_retries: Further tries of a setting that the cluster let down.
        constraints: What the best trial must keep.
        parallel: How many trials run side by side.
        thread: Makes the threads they run in; PySpark's own kind takes the caller's Spark properties along.
        alone: Numbers of trials that no other may run beside.
    """

    metric: Metric
    budget: Budget
    points: Sequence[Setting] = ()
    queue: int = 1
    infra_retries: int = 0
    constraints: Sequence[Constraint] = ()
    parallel: int = 1
    thread: type[threading.Thread] = threading.Thread
    alone: frozenset[int] = frozenset()


def broken_constraint(constraints: Sequence[Constraint], metrics: Mapping[str, float]) -> str | None:
    """Return which constraint what was measured breaks, or None."""
    for measure, relation, bound in constraints:
        value = metrics.get(measure, math.nan)
        if not _RELATIONS[relation](value, bound):
            return f"{measure} {relation} {bound:g} does not hold: it is {value:.6g}"
    return None


@dataclass(frozen=True)
class Result:
    """What a search found: the best trial, all trials in order, and why it stopped."""

    best: Trial
    trials: list[Trial]
    stop_reason: str
