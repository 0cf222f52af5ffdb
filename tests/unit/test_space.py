"""The search space: what holds for every space, however nested."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.strategies import SPACE, points, spaces

from retune.dimensions import Choice, PChoice
from retune.distributions import Distribution
from retune.space import alternatives, decode, encode, flatten, parameter_names, possible_values, walk

SPACES_WITH_POINTS = spaces().flatmap(lambda space: st.tuples(st.just(space), points(space)))


def lies_in(entry: Any, value: Any) -> bool:
    """Tell whether `value` is one that `entry` can give: an oracle apart from the code under test."""
    if isinstance(entry, (Choice, PChoice)):
        return any(lies_in(option, value) for option in entry.options)
    if isinstance(entry, Mapping):
        return (
            isinstance(value, Mapping)
            and entry.keys() == value.keys()
            and all(lies_in(entry[name], value[name]) for name in entry)
        )
    if not isinstance(entry, Distribution):
        return json.dumps(entry) == json.dumps(value)
    return type(value) in (int, float) and all(rule(entry, value) for rule in (in_bounds, on_step, of_type))


def in_bounds(d: Any, value: float) -> bool:
    if "log" in d.type and value < 0:
        return False
    return d.low <= value <= d.high - (d.type == "randint") if hasattr(d, "low") else math.isfinite(value)


def on_step(d: Any, value: float) -> bool:
    return not hasattr(d, "q") or math.isclose(value / d.q, round(value / d.q), abs_tol=1e-9)


def of_type(d: Any, value: float) -> bool:
    if d.type in ("uniformint", "randint"):
        return isinstance(value, int)
    numbers = [getattr(d, name) for name in ("low", "high", "mean", "q") if hasattr(d, name)]
    return isinstance(value, int) == (hasattr(d, "q") and all(isinstance(n, int) for n in numbers))


@given(SPACES_WITH_POINTS)
def test_a_decoded_setting_lies_in_the_space(drawn):
    space, point = drawn
    setting = decode(space, point)
    assert setting.keys() == space.keys()
    assert all(lies_in(space[name], value) for name, value in setting.items()), setting


@given(SPACES_WITH_POINTS)
def test_encoding_and_decoding_gives_the_same_setting(drawn):
    space, point = drawn
    setting = decode(space, point)
    assert decode(space, encode(space, setting)) == setting


@given(SPACES_WITH_POINTS)
def test_a_setting_survives_json(drawn):
    space, point = drawn
    setting = decode(space, point)
    read = json.loads(json.dumps(setting))
    assert read == setting
    assert encode(space, read) == encode(space, setting)


@given(SPACES_WITH_POINTS)
def test_encoding_gives_numbers_for_labels_of_the_space_only(drawn):
    space, point = drawn
    encoded = encode(space, decode(space, point))
    assert encoded.keys() <= {label for label, _ in walk(space)}
    assert all(type(number) in (int, float) for number in encoded.values())


@given(SPACES_WITH_POINTS)
def test_a_flat_setting_has_each_active_parameter_once(drawn):
    space, point = drawn
    setting = decode(space, point)
    parameters = flatten(setting)
    leaves = list(walk_leaves(setting))
    assert sorted(parameters) == sorted(leaves)
    assert parameters.keys() <= parameter_names(space)
    assert not any(isinstance(value, Mapping) for value in parameters.values())


def walk_leaves(setting: Mapping[str, Any]) -> Any:
    for name, value in setting.items():
        yield from walk_leaves(value) if isinstance(value, Mapping) else [name]


@given(SPACES_WITH_POINTS)
def test_every_dimension_has_a_label_of_its_own(drawn):
    space, point = drawn
    labels = [label for label, _ in walk(space)]
    assert len(labels) == len(set(labels))
    assert point.keys() <= set(labels)


@given(spaces())
def test_every_parameter_has_possible_values(space):
    assert {name for name, _ in possible_values(space)} == parameter_names(space)


@given(SPACES_WITH_POINTS)
@example((SPACE.validate_python({"x": {"type": "choice", "options": ["a", {"y": 1}, "b"]}}), {"x": 2}))
def test_alternatives_hold_one_value_of_the_parameter_and_all_that_can_go_with_it(drawn):
    space, point = drawn
    setting = flatten(decode(space, point))
    for name in parameter_names(space):
        every = list(alternatives(space, name))
        assert all(sum(own == name for own, _ in each) <= 1 for each in every)
        assert any(
            (name in setting) == (name in dict(each))
            and all(any(own == has and lies_in(entry, value) for own, entry in each) for has, value in setting.items())
            for each in every
        )


@given(spaces())
def test_a_space_survives_json(space):
    assert SPACE.validate_json(SPACE.dump_json(space)) == space


NESTED = SPACE.validate_python(
    {
        "rate": {"type": "loguniform", "low": 0.001, "high": 0.5},
        "booster": {
            "type": "choice",
            "options": ["plain", {"drop": {"type": "uniform", "low": 0, "high": 1}, "mode": "dart"}],
        },
    }
)


def test_a_branch_gives_its_entries_in_place_of_the_choice():
    setting = decode(NESTED, {"rate": 0.1, "booster": 1, "booster[1].drop": 0.25})
    assert setting == {"rate": 0.1, "booster": {"drop": 0.25, "mode": "dart"}}
    assert flatten(setting) == {"rate": 0.1, "drop": 0.25, "mode": "dart"}


def test_a_constant_is_told_from_an_equal_one_of_another_type():
    space = SPACE.validate_python({"x": {"type": "choice", "options": [True, 1, 1.0, "1", [True], [1], [1.0]]}})
    for index in range(7):
        assert encode(space, decode(space, {"x": index})) == {"x": index}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.6}, r"^rate = 0\.6 lies outside {type: loguniform, low: 0\.001, high: 0\.5"),
        ({"rate": True}, "^rate = True lies outside"),
        ({"rate": math.nan}, "^rate = nan lies outside"),
        ({"rate": "0.1"}, "^rate = '0.1' lies outside"),
        ({"booster": "dart"}, "^booster = 'dart' is none of its options"),
        ({"booster": {"drop": 0.5}}, "^booster = .* is none of its options"),
        ({"booster": {"drop": 1.5, "mode": "dart"}}, "^booster = .* is none of its options"),
        ({"depth": 3}, r"^the setting has \['booster', 'depth', 'rate'\], but the space has \['booster', 'rate'\]"),
    ],
)
def test_a_setting_outside_the_space_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        encode(NESTED, {"rate": 0.1, "booster": "plain", **change})


def test_a_number_that_is_missing_is_named():
    with pytest.raises(KeyError, match=r"booster\[1\]\.drop"):
        decode(NESTED, {"rate": 0.1, "booster": 1})


def test_two_dimensions_that_are_active_together_may_not_set_one_parameter():
    branch = {"type": "choice", "options": [0, {"rate": {"type": "uniform", "low": 0, "high": 1}}]}
    space = SPACE.validate_python({"rate": {"type": "normal", "mean": 0, "std": 1}, "other": branch})
    with pytest.raises(ValueError, match=r"^other sets \['rate'\], which another dimension"):
        parameter_names(space)


def test_branches_of_one_choice_may_set_the_same_parameter():
    branches = [{"depth": {"type": "uniformint", "low": low, "high": 9}, "kind": low} for low in (1, 2)]
    space = SPACE.validate_python({"tree": {"type": "choice", "options": branches}})
    assert parameter_names(space) == {"depth", "kind"}
