"""Hypothesis strategies: search spaces nested to depth 3, and what an engine may draw from them."""

import string
from typing import Any

from hypothesis import strategies as st
from pydantic import TypeAdapter

from retune.dimensions import Choice, PChoice, Space
from retune.distributions import Distribution, RandInt, UniformInt
from retune.space import Point

DEEPEST = 3
SPACE = TypeAdapter(Space)
_STEPS = st.sampled_from([1, 2, 3, 10, 0.1, 0.25, 0.5, 1.0, 2.5])
_INTEGERS = st.integers(-1000, 1000)
_NUMBERS = _INTEGERS | st.floats(-1000, 1000).map(lambda x: round(x, 3))
_POSITIVE = st.integers(1, 1000) | st.floats(0.001, 1000).map(lambda x: round(x, 3))
_SCALARS = st.none() | st.booleans() | _INTEGERS | st.floats(-10, 10) | st.text(string.printable, max_size=5)
VALUES = _SCALARS | st.lists(_SCALARS, max_size=3)


def spaces(deepest: int = DEEPEST) -> st.SearchStrategy[Space]:
    """Spaces of up to three dimensions, whose choices have branches nested to `deepest` levels."""
    return _branches("", deepest, st.nothing()).map(SPACE.validate_python)


def dimensions(*kinds: str) -> st.SearchStrategy[Any]:
    """Single distributions of the given types, none of them a choice."""
    return st.one_of([_FLAT[kind] for kind in kinds]).map(lambda fields: SPACE.validate_python({"x": fields})["x"])


@st.composite
def points(draw: st.DrawFn, space: Space) -> Point:
    """What an engine could draw from `space`: a raw number for each active dimension."""
    point: Point = {}
    for name, entry in space.items():
        _draw_entry(draw, entry, name, point)
    return point


def raw_numbers(dimension: Any) -> st.SearchStrategy[Any]:
    """What an engine could draw for one dimension, those roundings included that end outside its bounds."""
    if isinstance(dimension, (Choice, PChoice)):
        return st.integers(0, len(dimension.options) - 1)
    if isinstance(dimension, UniformInt):
        return st.integers(dimension.low, dimension.high)
    if isinstance(dimension, RandInt):
        return st.integers(dimension.low, dimension.high - 1)
    if hasattr(dimension, "low"):
        numbers = st.floats(dimension.low, dimension.high)
    elif dimension.type.endswith("lognormal"):
        numbers = st.floats(0, dimension.mean + 10 * dimension.std)
    else:
        numbers = st.floats(dimension.mean - 10 * dimension.std, dimension.mean + 10 * dimension.std)
    return numbers.map(lambda x: round(x / dimension.q) * dimension.q) if hasattr(dimension, "q") else numbers


@st.composite
def _bounds(draw: st.DrawFn, numbers: st.SearchStrategy[Any], **more: Any) -> dict[str, Any]:
    low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
    return {"low": low, "high": high, **more}


@st.composite
def _stepped_bounds(draw: st.DrawFn, numbers: st.SearchStrategy[Any], **more: Any) -> dict[str, Any]:
    q, low = draw(_STEPS), draw(numbers)
    width = draw(st.integers(1, 20))
    high = low + q * width + draw(st.sampled_from([0, 1]))
    # As people write it: 0.3, not 0.30000000000000004.
    return {"low": low, "high": round(high, 6), "q": q, **more}


def _around(mean: st.SearchStrategy[Any], **more: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"mean": mean, "std": _POSITIVE, **more})


def _typed(kind: str, fields: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return fields.map(lambda some: {"type": kind, **some})


_FLAT: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    kind: _typed(kind, fields)
    for kind, fields in {
        "uniform": _bounds(_NUMBERS),
        "loguniform": _bounds(_POSITIVE),
        "quniform": _stepped_bounds(_NUMBERS),
        "qloguniform": _stepped_bounds(_POSITIVE),
        "normal": _around(_NUMBERS),
        "lognormal": _around(_POSITIVE),
        "qnormal": _around(_NUMBERS, q=_STEPS),
        "qlognormal": _around(_POSITIVE, q=_STEPS),
        "uniformint": _bounds(_INTEGERS),
        "randint": _bounds(_INTEGERS),
    }.items()
}


@st.composite
def _branches(draw: st.DrawFn, prefix: str, deeper: int, values: st.SearchStrategy[Any]) -> dict[str, Any]:
    # Names are longer the deeper they stand, so two that are active together never meet.
    names = [prefix + letter for letter in "abc"[: draw(st.integers(1, 3))]]
    return {name: draw(_dimensions(name, deeper) | values) for name in names}


def _dimensions(name: str, deeper: int) -> st.SearchStrategy[dict[str, Any]]:
    flat = st.one_of(list(_FLAT.values()))
    return flat | _choices(name, deeper - 1) if deeper else flat


@st.composite
def _choices(draw: st.DrawFn, name: str, deeper: int) -> dict[str, Any]:
    branches = _branches(name, deeper, VALUES)
    either = branches | VALUES | _dimensions(name, deeper)
    options = draw(st.lists(branches, min_size=2, max_size=3) | st.lists(either, min_size=1, max_size=3))
    if draw(st.booleans()):
        return {"type": "choice", "options": options}
    weights = draw(st.lists(st.integers(1, 9), min_size=len(options), max_size=len(options)))
    return {"type": "pchoice", "options": options, "probabilities": [weight / sum(weights) for weight in weights]}


def _draw_entry(draw: st.DrawFn, entry: Any, label: str, point: Point) -> None:
    if isinstance(entry, Distribution):
        point[label] = draw(raw_numbers(entry))
        if isinstance(entry, (Choice, PChoice)):
            index = int(point[label])
            _draw_entry(draw, entry.options[index], f"{label}[{index}]", point)
    elif isinstance(entry, dict):
        for name, inner in entry.items():
            _draw_entry(draw, inner, f"{label}.{name}", point)
