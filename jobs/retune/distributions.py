"""What numbers are drawn from, in the parameters' own units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, model_validator

Number: TypeAlias = int | float
_WIDEST_RANDINT = 100_000
_INSIDE = math.pi * 1e-9  # of a width; of hardly any a whole number


class Distribution(BaseModel):
    """What one dimension's values are drawn from."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @property
    def whole(self) -> bool:
        """Whether every value is a whole number."""
        return False

    def size(self) -> int:
        """Return how many values there are.

        Raises:
            ValueError: More than can be counted.
        """
        raise ValueError(f"{type(self).__name__.lower()} is continuous")

    def value_at(self, index: int) -> Number:
        """Return the value at `index` in rising order, from 0 to `size() - 1`."""
        raise ValueError(f"{type(self).__name__.lower()} is continuous")

    def to_value(self, raw: Number) -> Number:
        """Return the value a trial gets for the number an engine drew."""
        return float(raw)

    def extremes(self) -> Sequence[Number]:
        """Return the least and the greatest value; of a continuous distribution just inside, for it hardly draws them.

        Of one without ends, a value near its mean.
        """
        return [self.value_at(0), self.value_at(self.size() - 1)]

    def contains(self, value: object) -> bool:
        """Tell whether `value` can be drawn from this distribution."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it contains")

    def nearest(self, value: object) -> Number:
        """Return the value of this distribution that is nearest to `value`.

        Raises:
            ValueError: There is none, or `value` is no number.
        """
        if not is_number(value):
            raise ValueError(f"{value!r} is no number")
        near = self.to_value(self._clamp(value))
        if not self.contains(near):
            raise ValueError(f"{value!r} is not near any value")
        return near

    def _clamp(self, value: Number) -> Number:
        return value


class _Bounded(Distribution):
    low: Number = Field(description="Smallest value, in the parameter's own units (inclusive).")
    high: Number = Field(description="Largest value, in the parameter's own units.")

    @model_validator(mode="after")
    def _check_order(self) -> _Bounded:
        if self.low >= self.high:
            raise ValueError(f"low must be less than high, but low is {self.low} and high is {self.high}")
        return self

    def contains(self, value: object) -> bool:
        return is_number(value) and self.low <= value <= self.high

    def _clamp(self, value: Number) -> Number:
        return min(max(value, self.low), self.high)


class _Positive(_Bounded):
    @model_validator(mode="after")
    def _check_positive(self) -> _Positive:
        if self.low <= 0:
            raise ValueError(f"low must be greater than 0 on a logarithmic scale, but it is {self.low}")
        return self


class Quantized(_Bounded):
    """A multiple of q between low and high."""

    q: Number = Field(gt=0, description="The step: values are multiples of it.")

    @model_validator(mode="after")
    def _check_step(self) -> Quantized:
        try:
            none_between = self._lowest() > self._highest()
        except OverflowError:
            raise ValueError(f"q = {self.q} is too small a step between {self.low} and {self.high}") from None
        if none_between:
            raise ValueError(f"no multiple of q = {self.q} lies between low = {self.low} and high = {self.high}")
        return self

    def to_value(self, raw: Number) -> Number:
        """Return the multiple of `q` nearest to `raw` within the bounds; Hyperopt alone may round to one outside."""
        steps = min(max(round(raw / self.q), self._lowest()), self._highest())
        return _multiple(steps, self.q, as_int=_all_integers(self.low, self.high, self.q))

    def steps(self) -> tuple[int, int]:
        """Return how many times `q` the least value is, and the greatest."""
        return self._lowest(), self._highest()

    def size(self) -> int:
        return self._highest() - self._lowest() + 1

    def value_at(self, index: int) -> Number:
        return self.to_value((self._lowest() + index) * self.q)

    @property
    def whole(self) -> bool:
        return float(self.q).is_integer()

    def contains(self, value: object) -> bool:
        return is_number(value) and math.isclose(self.to_value(value), value)

    def _lowest(self) -> int:
        return math.ceil(self.low / self.q - 1e-9)

    def _highest(self) -> int:
        return math.floor(self.high / self.q + 1e-9)


class _Normal(Distribution):
    mean: Number
    std: Number = Field(gt=0)

    def extremes(self) -> Sequence[Number]:
        return [self.to_value(self.mean + self.std * _INSIDE)]

    def contains(self, value: object) -> bool:
        return is_number(value)


class _QuantizedNormal(_Normal):
    q: Number = Field(gt=0, description="The step: values are multiples of it.")

    def to_value(self, raw: Number) -> Number:
        return _multiple(round(raw / self.q), self.q, as_int=_all_integers(self.mean, self.q))

    @property
    def whole(self) -> bool:
        return float(self.q).is_integer()

    def contains(self, value: object) -> bool:
        return is_number(value) and math.isclose(self.to_value(value), value, abs_tol=1e-12)


class _PositiveMean(_Normal):
    """A log-normal; `mean` and `std` are those of the parameter itself, not of its logarithm."""

    mean: Number = Field(gt=0)

    def log_moments(self) -> tuple[float, float]:
        """Return mean and standard deviation of the logarithm (the log-normal's moments, solved for mu and sigma)."""
        variance = math.log1p((self.std / self.mean) ** 2)
        return math.log(self.mean) - variance / 2, math.sqrt(variance)

    def contains(self, value: object) -> bool:
        return is_number(value) and value >= 0


class _Continuous(_Bounded):
    def extremes(self) -> Sequence[Number]:
        inside = self.high * _INSIDE - self.low * _INSIDE
        return [self.low + inside, self.high - inside]


class Uniform(_Continuous):
    """A float between low and high."""

    type: Literal["uniform"]


class LogUniform(_Continuous, _Positive):
    """A float between low and high, uniform on a logarithmic scale."""

    type: Literal["loguniform"]


class QUniform(Quantized):
    """A multiple of q between low and high; an integer where low, high and q are integers."""

    type: Literal["quniform"]


class QLogUniform(Quantized, _Positive):
    """A multiple of q between low and high, uniform on a logarithmic scale before rounding."""

    type: Literal["qloguniform"]

    def _lowest(self) -> int:
        return max(1, super()._lowest())  # however small `low` is, 0 is below it


class Normal(_Normal):
    """A float around mean, not bounded."""

    type: Literal["normal"]


class LogNormal(_PositiveMean):
    """A positive float with the given mean and standard deviation, normal on a logarithmic scale."""

    type: Literal["lognormal"]


class QNormal(_QuantizedNormal):
    """A multiple of q around mean; an integer where mean and q are integers."""

    type: Literal["qnormal"]


class QLogNormal(_QuantizedNormal, _PositiveMean):
    """A multiple of q, 0 included, log-normal before rounding; an integer where mean and q are integers."""

    type: Literal["qlognormal"]

    def contains(self, value: object) -> bool:
        return is_number(value) and value >= 0 and super().contains(value)


class _Integer(_Bounded):
    low: int = Field(description="Smallest value (inclusive).")

    @property
    def whole(self) -> bool:
        return True

    def to_value(self, raw: Number) -> Number:
        return int(raw)

    def nearest(self, value: object) -> Number:
        if not is_number(value):
            raise ValueError(f"{value!r} is no number")
        return self.value_at(min(max(round(value) - self.low, 0), self.size() - 1))

    def value_at(self, index: int) -> Number:
        return self.low + index


class UniformInt(_Integer):
    """An integer between low and high, both inclusive."""

    type: Literal["uniformint"]
    high: int = Field(description="Largest value (inclusive).")

    def size(self) -> int:
        return self.high - self.low + 1

    def contains(self, value: object) -> bool:
        return _is_integer(value) and self.low <= value <= self.high


class RandInt(_Integer):
    """An integer from low to high - 1, as Hyperopt and NumPy have it."""

    type: Literal["randint"]
    high: int = Field(description="One more than the largest value (exclusive).")

    def size(self) -> int:
        return self.high - self.low

    @model_validator(mode="after")
    def _check_width(self) -> RandInt:
        # Hyperopt keeps a weight for each value.
        if self.high - self.low > _WIDEST_RANDINT:
            raise ValueError(f"randint has room for {_WIDEST_RANDINT} values at most; use uniformint for more")
        return self

    def contains(self, value: object) -> bool:
        return _is_integer(value) and self.low <= value < self.high


def _multiple(steps: int, q: Number, as_int: bool) -> Number:
    # 12 significant digits: 3 * 0.1 is meant to be 0.3, in MLflow too.
    return steps * int(q) if as_int else float(f"{steps * q:.12g}")


def _all_integers(*numbers: Number) -> bool:
    return all(isinstance(number, int) for number in numbers)


def is_number(value: object) -> TypeGuard[Number]:
    """Tell whether a value is a finite number, and not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -math.inf < value < math.inf


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
