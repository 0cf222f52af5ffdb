"""The search space: distributions over hyperparameters, nested to any depth.

Three forms of one proposal, each with its use:

* a *point* maps each active dimension's label to the raw number that an engine drew (for a choice, the option's index);
* a *setting* is what the user reads: values only, a branch as a nested mapping, JSON-safe;
* *parameters* are the setting made flat: what the trainer gets and MLflow shows.

`decode` turns a point into a setting, `encode` a setting back into a point, `flatten` a setting into parameters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from retune.dimensions import Choice, PChoice, Value
from retune.distributions import Distribution, Number

Point: TypeAlias = dict[str, Number]
Setting: TypeAlias = dict[str, Any]
Parameters: TypeAlias = dict[str, Value]


def walk(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Distribution]]:
    """Yield every dimension of `space`, those inside branches included, with its unique label."""
    for name, entry in space.items():
        if isinstance(entry, Distribution):
            yield from _walk_dimension(prefix + name, entry)


def _walk_dimension(label: str, dimension: Distribution) -> Iterator[tuple[str, Distribution]]:
    yield label, dimension
    if isinstance(dimension, (Choice, PChoice)):
        for index, option in enumerate(dimension.options):
            if isinstance(option, Distribution):
                yield from _walk_dimension(f"{label}[{index}]", option)
            elif isinstance(option, Mapping):
                yield from walk(option, f"{label}[{index}].")


def decode(space: Mapping[str, Any], point: Mapping[str, Number], prefix: str = "") -> Setting:
    """Turn what an engine drew into the setting a user reads.

    Args:
        space: The space, or one branch of it.
        point: The raw number of each active dimension, by label.
        prefix: Where in the space `space` stands.

    Raises:
        KeyError: A dimension that is active has no number in `point`.
    """
    return {name: _decode_entry(entry, point, prefix + name) for name, entry in space.items()}


def _decode_entry(entry: Any, point: Mapping[str, Number], label: str) -> Any:
    if isinstance(entry, (Choice, PChoice)):
        index = int(point[label])
        return _decode_entry(entry.options[index], point, f"{label}[{index}]")
    if isinstance(entry, Distribution):
        return entry.to_value(point[label])
    if isinstance(entry, Mapping):
        return decode(entry, point, f"{label}.")
    return entry


def encode(space: Mapping[str, Any], setting: Mapping[str, Any], prefix: str = "") -> Point:
    """Turn a setting back into a point: the inverse of `decode`.

    Where several options of a choice could have given the same value, the first is taken.

    Raises:
        ValueError: The setting does not lie in the space; the message names the parameter, its value and the rule.
    """
    if set(setting) != set(space):
        raise ValueError(f"{prefix or 'the setting'} has {sorted(setting)}, but the space has {sorted(space)}")
    point: Point = {}
    for name, entry in space.items():
        point |= _encode_entry(entry, setting[name], prefix + name)
    return point


def shown(entry: Distribution) -> str:
    """Return a distribution as files spell it."""
    fields = entry.model_dump()
    return "{" + ", ".join(f"{name}: {value}" for name, value in ({"type": fields.get("type")} | fields).items()) + "}"


def _encode_entry(entry: Any, value: Any, label: str) -> Point:
    if isinstance(entry, (Choice, PChoice)):
        for index, option in enumerate(entry.options):
            try:
                return {label: index, **_encode_entry(option, value, f"{label}[{index}]")}
            except ValueError:
                continue
        raise ValueError(f"{label} = {value!r} is none of its options")
    if isinstance(entry, Distribution):
        if not entry.contains(value):
            raise ValueError(f"{label} = {value!r} lies outside {shown(entry)}")
        return {label: value}
    if isinstance(entry, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{label} = {value!r} is not a branch")
        return encode(entry, value, f"{label}.")
    if repr(entry) != repr(value):  # 1, 1.0 and True are equal, [1] and [True] too
        raise ValueError(f"{label} = {value!r} is not {entry!r}")
    return {}


def locate(space: Mapping[str, Any], parameters: Mapping[str, Any]) -> Setting:
    """Return the setting whose parameters are `parameters`: the inverse of `flatten`.

    A choice takes the option that accounts for most of them, and needs the fewest constants
    that were left out; the first of equals.

    Raises:
        ValueError: No setting of the space has just these parameters; the message names one that is in the way.
    """
    setting, used = _locate(space, parameters)
    if spare := set(parameters) - used:
        raise ValueError(f"{', '.join(sorted(spare))}: no parameter of the space, or not of this branch")
    encode(space, setting)
    return setting


def _locate(space: Mapping[str, Any], parameters: Mapping[str, Any]) -> tuple[Setting, set[str]]:
    setting: Setting = {}
    used: set[str] = set()
    for name, entry in space.items():
        setting[name], names = _locate_entry(name, entry, parameters)
        used |= names
    return setting, used


def _locate_entry(
    name: str, entry: Any, parameters: Mapping[str, Any], is_option: bool = False
) -> tuple[Any, set[str]]:
    if isinstance(entry, Mapping):
        return _locate(entry, parameters)
    if isinstance(entry, (Choice, PChoice)):
        fitting = list(_fitting_options(name, entry, parameters))
        if fitting:
            # No other dimension sets these parameters, so the option must account for as many as any can.
            return max(fitting, key=lambda each: (len(each[1]), -len(flatten({name: each[0]}))))
    if name in parameters:
        return parameters[name], {name}
    if is_option or isinstance(entry, Distribution):
        raise ValueError(f"{name} is missing")
    return entry, set()  # a constant of a branch


def _fitting_options(
    name: str, choice: Choice | PChoice, parameters: Mapping[str, Any]
) -> Iterator[tuple[Any, set[str]]]:
    for option in choice.options:
        try:
            found, used = _locate_entry(name, option, parameters, is_option=True)
            _encode_entry(option, found, name)
        except ValueError:
            continue
        yield found, used


def clip(space: Mapping[str, Any], setting: Mapping[str, Any]) -> Setting:
    """Return the setting of `space` nearest to `setting`, number by number.

    Raises:
        ValueError: It has other parameters than the space, or a value that no number of the space is near to.
    """
    if set(setting) != set(space):
        raise ValueError(f"the setting has {sorted(setting)}, but the space has {sorted(space)}")
    return {name: _clip_entry(entry, setting[name], name) for name, entry in space.items()}


def _clip_entry(entry: Any, value: Any, label: str) -> Any:
    if isinstance(entry, Distribution) and not isinstance(entry, (Choice, PChoice)):
        return entry.nearest(value)
    if isinstance(entry, Mapping) and isinstance(value, Mapping):
        return clip(entry, value)
    for option in entry.options if isinstance(entry, (Choice, PChoice)) else []:
        try:
            return _clip_entry(option, value, label)
        except ValueError:
            continue
    _encode_entry(entry, value, label)
    return value


def grid_size(space: Mapping[str, Any]) -> int:
    """Return how many settings a discrete space has."""
    return math.prod(_entry_size(entry) for entry in space.values())


def _entry_size(entry: Any) -> int:
    if isinstance(entry, (Choice, PChoice)):
        return sum(_entry_size(option) for option in entry.options)
    if isinstance(entry, Distribution):
        return entry.size()
    return grid_size(entry) if isinstance(entry, Mapping) else 1


def flatten(setting: Mapping[str, Any]) -> Parameters:
    """Return the setting's parameters; a branch gives its own entries in place of the choice's name."""
    parameters: Parameters = {}
    for name, value in setting.items():
        parameters |= flatten(value) if isinstance(value, Mapping) else {name: value}
    return parameters


def parameter_names(space: Mapping[str, Any]) -> set[str]:
    """Return the names of all parameters that a setting of `space` can give to a trainer.

    Raises:
        ValueError: Two dimensions that can be active together would set the same parameter.
    """
    names: set[str] = set()
    for name, entry in space.items():
        found = _names_of(name, entry)
        if both := names & found:
            raise ValueError(f"{name} sets {sorted(both)}, which another dimension of the same branch sets too")
        names |= found
    return names


def _names_of(name: str, entry: Any) -> set[str]:
    if isinstance(entry, (Choice, PChoice)):
        return set().union(*(_names_of(name, option) for option in entry.options))
    return parameter_names(entry) if isinstance(entry, Mapping) else {name}


def alternatives(space: Mapping[str, Any], name: str) -> Iterator[list[tuple[str, Value | Distribution]]]:
    """Yield, for each option that sets parameter `name`, what `possible_values` has that can be active beside it.

    Where an option does not set it, what goes with that option is yielded without it.
    """
    each = [_alternatives_of(own, entry, name) for own, entry in space.items()]
    for combination in itertools.product(*each):
        yield [pair for part in combination for pair in part]


def _alternatives_of(own: str, entry: Any, name: str) -> list[list[tuple[str, Value | Distribution]]]:
    if name not in _names_of(own, entry):
        return [list(_possible_values_of(own, entry))]
    if isinstance(entry, (Choice, PChoice)):
        return [each for option in entry.options for each in _alternatives_of(own, option, name)]
    return list(alternatives(entry, name)) if isinstance(entry, Mapping) else [[(own, entry)]]


def possible_values(space: Mapping[str, Any]) -> Iterator[tuple[str, Value | Distribution]]:
    """Yield (parameter, constant or distribution) for everything `space` can give to a trainer."""
    for name, entry in space.items():
        yield from _possible_values_of(name, entry)


def _possible_values_of(name: str, entry: Any) -> Iterator[tuple[str, Value | Distribution]]:
    if isinstance(entry, (Choice, PChoice)):
        for option in entry.options:
            yield from _possible_values_of(name, option)
    elif isinstance(entry, Mapping):
        yield from possible_values(entry)
    else:
        yield name, entry
