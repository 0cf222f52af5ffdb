"""What an experiment gives to fits as parameters, and by which rules that can be told before a fit."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeAlias

from retune.distributions import Distribution
from retune.experiment import Experiment
from retune.space import possible_values

Given: TypeAlias = tuple[str, str, object]
"""A parameter: where it is given, its name, and its value or the distribution of values."""
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


def did_you_mean(name: str, known: Mapping[str, object]) -> str:
    """Return names close to one that is not known, or all."""
    close = get_close_matches(name, known, n=3)
    return f"did you mean {', '.join(close)}?" if close else f"it has {', '.join(sorted(known))}"
