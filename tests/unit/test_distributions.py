"""The distributions: what each may be told, and which values it gives."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from unit.strategies import SPACE, dimensions, raw_numbers


def build(kind: str, **fields: Any) -> Any:
    return SPACE.validate_python({"x": {"type": kind, **fields}})["x"]


QUANTIZED = dimensions("quniform", "qloguniform", "qnormal", "qlognormal")


@given(QUANTIZED.flatmap(lambda d: st.tuples(st.just(d), raw_numbers(d))))
def test_a_quantized_value_is_the_multiple_of_q_nearest_to_the_number_drawn(drawn):
    d, raw = drawn
    value = d.to_value(raw)
    assert math.isclose(value / d.q, round(value / d.q), abs_tol=1e-9)
    if not hasattr(d, "low") or d.low <= raw <= d.high:
        assert abs(value - raw) <= d.q
    assert d.to_value(value) == value
    assert d.contains(value)


@given(dimensions("uniform", "loguniform", "normal", "lognormal", "uniformint", "randint") | QUANTIZED)
def test_extremes_can_be_drawn_and_nothing_lies_beyond_them(dimension):
    ends = dimension.extremes()
    least, greatest = ends[0], ends[-1]
    assert dimension.contains(least)
    assert dimension.contains(greatest)
    if hasattr(dimension, "low"):
        width = dimension.high - dimension.low
        assert dimension.nearest(dimension.low) == pytest.approx(least, abs=1e-8 * width)
        assert dimension.nearest(dimension.high) == pytest.approx(greatest, abs=1e-8 * width)


@given(st.data(), dimensions("quniform", "qloguniform"))
def test_a_quantized_value_never_leaves_the_bounds(data, d):
    value = d.to_value(data.draw(st.floats(-2000, 2000)))
    assert d.low - 1e-9 <= value <= d.high + 1e-9
    assert not d.contains(d.high + d.q)
    assert not d.contains(d.low - d.q)


@given(dimensions("quniform", "qnormal", "uniformint", "randint", "uniform", "normal"), st.data())
def test_a_whole_distribution_gives_whole_numbers_only(d, data):
    value = d.to_value(data.draw(raw_numbers(d)))
    if d.whole:
        assert float(value).is_integer()


@pytest.mark.parametrize(
    ("fields", "raw", "value"),
    [
        ({"low": 20, "high": 200, "q": 10}, 57.3, 60),
        ({"low": 1, "high": 10, "q": 4}, 0.0, 4),
        ({"low": 1, "high": 10, "q": 4}, 12.0, 8),
        ({"low": 0, "high": 1, "q": 0.1}, 3 * 0.1, 0.3),
        ({"low": 0.5, "high": 9.5, "q": 2}, 4.2, 4.0),
    ],
)
def test_quniform_gives_clean_numbers_of_the_bounds_own_type(fields, raw, value):
    got = build("quniform", **fields).to_value(raw)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "fields", "inside", "outside"),
    [
        ("uniform", {"low": 0, "high": 1}, [0, 0.5, 1.0], [-0.1, 1.1, math.nan, "0.5", True, None]),
        ("loguniform", {"low": 0.1, "high": 1}, [0.1, 1], [0.09, 0]),
        ("quniform", {"low": 0, "high": 10, "q": 5}, [0, 5, 10], [2, 15, -5, math.inf]),
        ("normal", {"mean": 0, "std": 1}, [-9.0, 0, 9], [math.inf, math.nan, False]),
        ("lognormal", {"mean": 1, "std": 1}, [0.5, 100], [-0.5]),
        ("qnormal", {"mean": 0, "std": 1, "q": 0.5}, [-0.5, 0, 3], [0.3]),
        ("qlognormal", {"mean": 1, "std": 1, "q": 2}, [0, 2, 40], [-2, 1]),
        ("uniformint", {"low": 1, "high": 3}, [1, 3], [0, 4, 2.0, True]),
        ("randint", {"low": 1, "high": 3}, [1, 2], [0, 3, 1.0]),
    ],
)
def test_contains_tells_inside_from_outside(kind, fields, inside, outside):
    d = build(kind, **fields)
    assert [value for value in inside if not d.contains(value)] == []
    assert [value for value in outside if d.contains(value)] == []


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_log_moments_are_those_of_a_log_normal_with_the_given_mean_and_std(mean, std):
    mu, sigma = build("lognormal", mean=mean, std=std).log_moments()
    assert math.isclose(math.exp(mu + sigma**2 / 2), mean, rel_tol=1e-9)
    assert math.isclose(math.sqrt(math.expm1(sigma**2)) * mean, std, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("uniform", {"low": 1, "high": 1}, "low must be less than high, but low is 1 and high is 1"),
        ("uniform", {"low": 0, "high": math.inf}, "should be a finite number"),
        ("uniform", {"low": 0}, "high\n  Field required"),
        ("uniform", {"low": 0, "high": 1, "q": 1}, "Extra inputs are not permitted"),
        ("uniform", {"low": "0", "high": 1}, "Input should be a valid"),
        ("loguniform", {"low": 0, "high": 1}, "low must be greater than 0 on a logarithmic scale, but it is 0"),
        ("qloguniform", {"low": -1, "high": 1, "q": 1}, "low must be greater than 0 on a logarithmic scale"),
        ("quniform", {"low": 0, "high": 1, "q": 0}, "greater than 0"),
        ("quniform", {"low": 1, "high": 4, "q": 5}, "no multiple of q = 5 lies between low = 1 and high = 4"),
        ("normal", {"mean": 0, "std": 0}, "greater than 0"),
        ("lognormal", {"mean": 0, "std": 1}, "greater than 0"),
        ("uniformint", {"low": 0.5, "high": 3}, "should be a valid integer"),
        ("randint", {"low": 3, "high": 2}, "low must be less than high"),
        ("choice", {"options": []}, "at least 1 item"),
        ("pchoice", {"options": [1, 2], "probabilities": [1]}, "as many as options, but there are 1 for 2"),
        ("pchoice", {"options": [1, 2], "probabilities": [0.5, 0.6]}, "add up to 1"),
        ("pchoice", {"options": [1, 2], "probabilities": [-0.5, 1.5]}, "must not be negative"),
        ("pchoice", {"options": [1, 2]}, "probabilities\n  Field required"),
        ("choice", {"options": [{}]}, "at least 1 item"),
        ("choice", {"options": [{"type": "unifrom", "low": 0, "high": 1}]}, "'unifrom' .*does not match"),
        ("gauss", {}, "'gauss' .*does not match"),
    ],
)
def test_a_distribution_that_makes_no_sense_is_refused(kind, fields, message):
    with pytest.raises(ValidationError, match=message if ".*" in message else re.escape(message)):
        build(kind, **fields)
