"""Hyperopt's densities of parameters in steps, over all earlier trials at once instead of one by one.

tpe compares its candidates by the density of a mixture that has a component for each earlier trial. For parameters in
steps (`quniform`, `uniformint`, …) Hyperopt adds the components up in a Python loop, which is half the time of a
proposal at 200 trials. These two give the same numbers, to the last bit, so that proposals stay those of `fmin`. Names
and arguments are those by which Hyperopt's graph calls them:

    samples: Candidates, of any shape, which is the result's too.
    weights, mus, sigmas: The components' weights, means and standard deviations, each of shape (components,).
    low, high: Where the mixture is cut off, both None for nowhere; for `LGMM1_lpdf` these are logarithms.
    q: The step, None for a parameter without. With one, the density of a sample is the probability of all that is
        rounded to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from hyperopt import tpe
from hyperopt.pyll import scope
from numpy.typing import NDArray

Values = NDArray[np.float64]


@contextmanager
def all_at_once() -> Iterator[None]:
    """Have Hyperopt's graphs call these functions, by the names of its own; afterwards those have them again."""
    _define(GMM1_lpdf, LGMM1_lpdf)
    try:
        yield
    finally:
        _define(tpe.GMM1_lpdf, tpe.LGMM1_lpdf)


def _define(*densities: Callable[..., Values]) -> None:
    for density in densities:
        scope.undefine(density.__name__)
        scope.define(density)


def GMM1_lpdf(  # noqa: N802
    samples: Any, weights: Values, mus: Values, sigmas: Values, low: Any = None, high: Any = None, q: Any = None
) -> Values:
    """Return the logarithms of the densities of `samples` in a mixture of normal distributions."""
    if q is None:
        return tpe.GMM1_lpdf(samples, weights, mus, sigmas, low, high)
    ends = (-np.inf, np.inf) if low is None else (low, high)
    mass = _mass_of_steps(tpe.normal_cdf, samples, q, ends, (weights, mus, sigmas))
    return np.log(mass) - np.log(_mass_within(low, high, weights, mus, sigmas))


def LGMM1_lpdf(  # noqa: N802
    samples: Any, weights: Values, mus: Values, sigmas: Values, low: Any = None, high: Any = None, q: Any = None
) -> Values:
    """Return the logarithms of the densities of `samples` in a mixture of log-normal distributions."""
    if q is None:
        return tpe.LGMM1_lpdf(samples, weights, mus, sigmas, low, high)
    ends = (0, np.inf) if low is None else (np.exp(low), np.exp(high))
    mass = _mass_of_steps(tpe.lognormal_cdf, samples, q, ends, (weights, mus, sigmas))
    return np.log(mass) - np.log(_mass_within(low, high, weights, mus, sigmas))


def _mass_of_steps(
    cdf: Callable[..., Values],
    samples: Any,
    q: float,
    ends: tuple[float, float],
    components: tuple[Values, Values, Values],
) -> Values:
    values = np.asarray(samples)
    weights, mus, sigmas = (np.asarray(component)[:, None] for component in components)
    lower, upper = np.maximum(values.ravel() - q / 2, ends[0]), np.minimum(values.ravel() + q / 2, ends[1])
    mass = weights * cdf(upper, mus, sigmas) - weights * cdf(lower, mus, sigmas)  # (components, samples)
    # A running sum adds one component after the other, as Hyperopt does; `sum` may add them in pairs.
    return np.cumsum(mass, axis=0)[-1].reshape(values.shape)


def _mass_within(low: float | None, high: float | None, weights: Values, mus: Values, sigmas: Values) -> Any:
    if low is None:
        return 1
    return np.sum(weights * (tpe.normal_cdf(high, mus, sigmas) - tpe.normal_cdf(low, mus, sigmas)))
