"""The search space: distributions over hyperparameters, nested to any depth.

Three forms of one proposal, each with its use:

* a *point* maps each active dimension's label to the raw number that an engine drew (for a choice, the option's index);
* a *setting* is what the user reads: values only, a branch as a nested mapping, JSON-safe;
* *parameters* are the setting made flat: what the trainer gets and MLflow shows.

`decode` turns a point into a setting, `encode` a setting back into a point, `flatten` a setting into parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from retune.distributions import Choice, Distribution, Number, PChoice, Value

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
            raise ValueError(f"{label} = {value!r} lies outside {entry!r}")
        return {label: value}
    if isinstance(entry, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{label} = {value!r} is not a branch")
        return encode(entry, value, f"{label}.")
    if repr(entry) != repr(value):  # 1, 1.0 and True are equal, [1] and [True] too
        raise ValueError(f"{label} = {value!r} is not {entry!r}")
    return {}


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
