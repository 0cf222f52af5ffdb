"""What a search asks of an engine, and the engines there are."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Protocol, cast

from retune.search_section import Search
from retune.space import Setting

log = logging.getLogger(__name__)


class Engine(Protocol):
    """Proposes settings from what it was told of earlier ones.

    An engine holds nothing that telling it the history again would not rebuild: proposal n depends on the space, the
    seed, n, and the trials told before, so an interrupted search goes on as if it had not been.
    """

    def propose(self, number: int) -> Setting:
        """Return the setting of trial `number` (from 0)."""
        ...

    def tell(self, number: int, setting: Setting, loss: float | None) -> None:
        """Take in how trial `number` ended; `loss` is lower-is-better, None when the trial failed.

        A trial of an earlier search has a number below 0, and is told before the others.

        Raises:
            ValueError: The setting does not lie in the engine's space.
        """
        ...


_MODULES = {
    "hyperopt": "retune.search.hyperopt_engine",
    "optuna": "retune.search.optuna_engine",
    "grid": "retune.search.grid_engine",
}
_RANDOM_FIRST = {("hyperopt", "tpe"): ("n_startup_jobs", 20), ("optuna", "tpe"): ("n_startup_trials", 10)}
"""Engine and algorithm → the setting for how many trials it proposes at random before it learns, and its default."""


def build_engine(search: Search) -> Engine:
    """Return the engine that `search` names; its library is imported only now."""
    _warn_if_random(search)
    return cast(Engine, import_module(_MODULES[search.engine]).build(search))


def _warn_if_random(search: Search) -> None:
    """Say so where the algorithm learns from none of the search's trials; those of a warm start might do."""
    setting, default = _RANDOM_FIRST.get((search.engine, search.algorithm_name), ("", 0))
    random_first = search.algorithm_settings.get(setting, default)
    if search.trials <= random_first and search.warm_start is None:
        log.warning(
            "max_trials = %d is not above %s = %d: all proposals are random, and %s learns from no trial",
            search.trials, setting, random_first, search.algorithm_name,
        )  # fmt: skip
