"""Hyperopt as an engine: its `suggest` functions over its plain `Trials`, one proposal at a time.

`fmin` is not used, because it owns the loop: nothing could be resumed, watched over or run side by side. Proposal n is
drawn with the n-th seed of `fmin`'s own sequence, so it proposes exactly what `fmin` would.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from hyperopt import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK, Trials, anneal, hp, rand, tpe
from hyperopt.base import Domain

from retune import distributions as d
from retune.dimensions import Choice, PChoice, Space
from retune.distributions import Number
from retune.search import hyperopt_densities
from retune.search_section import Search
from retune.space import Point, Setting, decode, encode, walk

ALGORITHMS: dict[str, Callable[..., list[Any]]] = {"tpe": tpe.suggest, "rand": rand.suggest, "anneal": anneal.suggest}
_LARGEST_SEED = 2**31 - 1  # fmin's own bound, exclusive


def build(search: Search) -> HyperoptEngine:
    """Return the engine for `search`."""
    return HyperoptEngine(search.space, search.algorithm_name, search.seed, search.algorithm_settings)


class HyperoptEngine:
    """Ask-and-tell over Hyperopt."""

    def __init__(
        self, space: Space, algorithm: str, seed: int, algorithm_settings: Mapping[str, Number] | None = None
    ) -> None:
        self._space = space
        self._suggest = partial(ALGORITHMS[algorithm], **(algorithm_settings or {}))
        self._seed = seed
        self._domain = Domain(None, to_hyperopt(space), pass_expr_memo_ctrl=False)
        self._trials = Trials()
        self._drawn: dict[int, Point] = {}

    def propose(self, number: int) -> Setting:
        """Return the setting of trial `number`; see `Engine`."""
        self._drawn[number] = self._draw(number)
        return decode(self._space, self._drawn[number])

    def tell(self, number: int, setting: Setting, loss: float | None) -> None:
        """Take in how trial `number` ended; see `Engine`."""
        point = self._point_of(number, setting)
        labels = [label for label, _ in walk(self._space)]
        misc = {
            "tid": number,
            "cmd": ("domain_attachment", "FMinIter_Domain"),
            "workdir": None,
            "idxs": {label: [number] if label in point else [] for label in labels},
            "vals": {label: [point[label]] if label in point else [] for label in labels},
        }
        result = {"status": STATUS_FAIL} if loss is None else {"status": STATUS_OK, "loss": loss}
        document = self._trials.new_trial_docs([number], [None], [result], [misc])[0]
        document["state"] = JOB_STATE_DONE
        self._trials.insert_trial_docs([document])
        self._trials.refresh()

    def _draw(self, number: int) -> Point:
        seed = int(np.random.default_rng(self._seed).integers(_LARGEST_SEED, size=number + 1)[number])
        with _collector_off(), hyperopt_densities.all_at_once():
            document = self._suggest([number], self._domain, self._trials, seed)[0]
        return {label: np.asarray(values[0]).item() for label, values in document["misc"]["vals"].items() if values}

    def _point_of(self, number: int, setting: Setting) -> Point:
        """Return what was drawn for `setting`.

        Hyperopt learns from numbers as they were before rounding and clipping, and from which of two overlapping
        options it was: more than a setting tells. So a trial of an earlier process is drawn again, from its seed and
        history. That of an earlier search, with a number below 0, cannot be.
        """
        if number < 0:
            return encode(self._space, setting)
        drawn = self._drawn.pop(number, None) or self._draw(number)
        return drawn if decode(self._space, drawn) == setting else encode(self._space, setting)


@contextmanager
def _collector_off() -> Iterator[None]:
    """Keep Python's garbage collector from running.

    Hyperopt builds a graph of thousands of objects for each proposal. The collector takes them for growth, and once in
    some 300 proposals goes through all that the job has imported, which takes 0.3 s; yet nearly all of them are freed
    without it, when the proposal is there.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def to_hyperopt(space: Mapping[str, Any], prefix: str = "", tagged: bool = False) -> dict[str, Any]:
    """Return `space` as the expression that Hyperopt takes; labels are those of `retune.space.walk`.

    Args:
        space: The space, or one branch of it.
        prefix: Where in the space `space` stands.
        tagged: Whether a choice evaluates to `index` and `option`, where the option alone would not tell which it is.
    """
    return {name: _expression(entry, prefix + name, tagged) for name, entry in space.items()}


def _expression(entry: Any, label: str, tagged: bool) -> Any:
    if isinstance(entry, (Choice, PChoice)):
        options = [_expression(option, f"{label}[{index}]", tagged) for index, option in enumerate(entry.options)]
        if tagged:
            options = [{"index": index, "option": option} for index, option in enumerate(options)]
        if isinstance(entry, Choice):
            return hp.choice(label, options)
        return hp.pchoice(label, list(zip(entry.probabilities, options, strict=True)))
    if isinstance(entry, d.Distribution):
        return _BUILDERS[type(entry)](label, entry)
    return to_hyperopt(entry, f"{label}.", tagged) if isinstance(entry, Mapping) else entry


_BUILDERS: dict[type[d.Distribution], Callable[[str, Any], Any]] = {
    d.Uniform: lambda label, x: hp.uniform(label, x.low, x.high),
    d.LogUniform: lambda label, x: hp.loguniform(label, np.log(x.low), np.log(x.high)),
    d.QUniform: lambda label, x: hp.quniform(label, x.low, x.high, x.q),
    d.QLogUniform: lambda label, x: hp.qloguniform(label, np.log(x.low), np.log(x.high), x.q),
    d.Normal: lambda label, x: hp.normal(label, x.mean, x.std),
    d.LogNormal: lambda label, x: hp.lognormal(label, *x.log_moments()),
    d.QNormal: lambda label, x: hp.qnormal(label, x.mean, x.std, x.q),
    d.QLogNormal: lambda label, x: hp.qlognormal(label, *x.log_moments(), x.q),
    d.UniformInt: lambda label, x: hp.uniformint(label, x.low, x.high),
    d.RandInt: lambda label, x: hp.randint(label, x.low, x.high),
}
