"""From the section `search` of an experiment to the plan of the loop."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from retune.functions import load_function
from retune.metrics import METRICS
from retune.search.early_stop import stop_function
from retune.search.plan import Plan
from retune.search.stopping import Budget
from retune.search_section import Search, parse_constraint
from retune.space import Setting


def build_plan(
    search: Search,
    points: Sequence[Setting],
    parallel: int,
    thread: type[threading.Thread] = threading.Thread,
    alone: frozenset[int] = frozenset(),
) -> Plan:
    """Return what a search is to do.

    Args:
        search: The section.
        points: Settings to try first.
        parallel: How many trials run side by side.
        thread: See `Plan`.
        alone: See `Plan`.

    Raises:
        BadInput: A function that the section names is not there or not allowed.
    """
    early, rule = search.early_stop, None
    if early and early.function:
        function = load_function("search.early_stop.function", early.function)
        rule = (early.function, stop_function(early.function, function))
    budget = Budget(
        max_trials=search.trials,
        timeout_s=search.timeout,
        loss_threshold=search.loss_threshold,
        patience=early.trials if early else None,
        minimum_gain=early.minimum_gain if early else 0.0,
        stop_function=rule,
        max_failed_trials=search.max_failed_trials,
    )
    return Plan(
        metric=METRICS[search.metric],
        budget=budget,
        points=points,
        queue=search.max_queue_len,
        infra_retries=search.infra_retries,
        constraints=[parse_constraint(text) for text in search.constraints],
        parallel=parallel,
        thread=thread,
        alone=alone,
    )
