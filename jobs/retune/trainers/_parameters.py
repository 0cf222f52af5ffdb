"""What an experiment gives to fits as parameters, and by which rules that can be told before a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias

from retune.distributions import Distribution, is_number
from retune.experiment import Experiment
from retune.space import possible_values, shown

Given: TypeAlias = tuple[str, str, object]
"""A parameter: where it is given, its name, and its value or the distribution of values."""
Range: TypeAlias = tuple[str, Callable[[Any], bool]]
"""What a value must be, in words, and whether one is."""
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}


def given_parameters(experiment: Experiment) -> list[Given]:
    """Return every parameter that the experiment gives."""
    model, space = experiment.model, experiment.search.space
    return [
        *(("model.fixed", name, value) for name, value in model.fixed.items()),
        *(("model.untuned", name, value) for name, value in model.untuned.items()),
        *(("search.space", name, value) for name, value in possible_values(space)),
    ]


def broken_rule(value: object, default: object) -> str | None:
    """Return why `value`, or all that a distribution draws, cannot stand where `default` does; None if it can."""
    kind = type(default)
    if default is None or value is None or kind not in _NAMES:
        return None
    if isinstance(value, Distribution):
        if kind is int and not value.whole:
            return "draws fractions, but the parameter takes whole numbers; use uniformint, or a whole q"
        return None if kind in (int, float) else f"draws numbers, but the parameter takes {_NAMES[kind]}; use choice"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        bool: isinstance(value, bool),
        int: number and float(value).is_integer() if isinstance(value, (int, float)) else False,
        float: number,
        str: isinstance(value, str),
        list: isinstance(value, list),
    }
    return None if fits[kind] else f"must be {_NAMES[kind]}, as its default {default!r} is"


def at_least(least: float) -> Range:
    """Return the range of all numbers from `least` on."""
    return f"must be {least:g} or more", lambda value: is_number(value) and value >= least


def count(least: int) -> Range:
    """Return the range of all whole numbers from `least` on."""
    rule = f"must be a whole number, {least} or more"
    return rule, lambda value: is_number(value) and float(value).is_integer() and value >= least


def above(bound: float) -> Range:
    """Return the range of all numbers greater than `bound`."""
    return f"must be a number greater than {bound:g}", lambda value: is_number(value) and value > bound


def within(low: float, high: float) -> Range:
    """Return the range of all numbers from `low` to `high`."""
    return f"must be from {low:g} to {high:g}", lambda value: is_number(value) and low <= value <= high


def half_open(low: float, high: float) -> Range:
    """Return the range of all numbers from `low` to less than `high`."""
    return f"must be at least {low:g} and less than {high:g}", lambda value: is_number(value) and low <= value < high


def one_of(*names: str, any_case: bool = False) -> Range:
    """Return the range of these names."""
    return f"must be one of {', '.join(names)}", lambda value: (str(value).lower() if any_case else value) in names


SHARE: Range = ("must be greater than 0 and at most 1", lambda value: is_number(value) and 0 < value <= 1)
"""Parts of a whole, of which there is at least some."""


def broken_range(value: object, allowed: Range) -> str | None:
    """Return why `value`, or what a distribution draws, lies outside a range; None if it does not."""
    rule, fine = allowed
    return None if all(map(fine, extremes(value))) else rule


def extremes(value: object) -> Sequence[Any]:
    """Return a constant, or what a distribution draws at its ends."""
    return value.extremes() if isinstance(value, Distribution) else [value]


def as_written(value: object) -> str:
    """Return a value or a distribution for a message."""
    return shown(value) if isinstance(value, Distribution) else repr(value)


def did_you_mean(name: str, known: Mapping[str, object]) -> str:
    """Return names close to one that is not known, or all."""
    close = get_close_matches(name, known, n=3)
    return f"did you mean {', '.join(close)}?" if close else f"it has {', '.join(sorted(known))}"
