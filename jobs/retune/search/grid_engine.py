"""A grid as an engine: trial n has the n-th setting of a discrete space, in the order of the experiment file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retune.dimensions import Choice, PChoice, Space
from retune.distributions import Distribution
from retune.search_section import Search
from retune.space import Setting, encode, grid_size


def build(search: Search) -> GridEngine:
    """Return the engine for `search`."""
    return GridEngine(search.space)


class GridEngine:
    """Every setting of a discrete space once; the first parameter changes slowest."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._size = grid_size(space)

    def propose(self, number: int) -> Setting:
        """Return the setting of trial `number`; see `Engine`."""
        # Several settings proposed at once may reach beyond the last one: the grid begins anew.
        return _setting_at(self._space, number % self._size)

    def tell(self, number: int, setting: Setting, loss: float | None) -> None:
        """Check that the setting lies in the grid, which learns nothing; see `Engine`."""
        encode(self._space, setting)


def _setting_at(space: Mapping[str, Any], index: int) -> Setting:
    """Return the setting at `index`, whose digits are the parameters, each in a base of its own."""
    digits: dict[str, int] = {}
    for name in reversed(list(space)):
        index, digits[name] = divmod(index, grid_size({name: space[name]}))
    return {name: _value_at(entry, digits[name]) for name, entry in space.items()}


def _value_at(entry: Any, index: int) -> Any:
    if isinstance(entry, (Choice, PChoice)):
        for option in entry.options:
            size = grid_size({"": option})
            if index < size:
                return _value_at(option, index)
            index -= size
    if isinstance(entry, Distribution):
        return entry.value_at(index)
    return _setting_at(entry, index) if isinstance(entry, Mapping) else entry
