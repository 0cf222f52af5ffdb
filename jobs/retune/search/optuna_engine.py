"""Optuna as an engine: its samplers over a study in memory, one proposal at a time.

Every proposal has a sampler of its own, seeded with the n-th seed of one sequence, so that it hangs on nothing but
that seed and what the study was told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import BaseTrial, FixedTrial, TrialState, create_trial

from retune import distributions as d
from retune.dimensions import Choice, Space
from retune.distributions import Number
from retune.search_section import Search
from retune.space import Setting, decode, encode, walk

_ALGORITHMS: dict[str, Callable[..., BaseSampler]] = {"tpe": TPESampler, "random": RandomSampler}
_LARGEST_SEED = 2**31 - 1  # exclusive; that of hyperopt_engine


def build(search: Search) -> OptunaEngine:
    """Return the engine for `search`."""
    return OptunaEngine(search.space, search.algorithm_name, search.seed, search.algorithm_settings)


class OptunaEngine:
    """Ask-and-tell over Optuna."""

    def __init__(
        self, space: Space, algorithm: str, seed: int, algorithm_settings: Mapping[str, Number] | None = None
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it greets every study on stderr
        self._space = space
        self._dimensions = dict(walk(space))
        self._sampler = _ALGORITHMS[algorithm]
        self._settings = dict(algorithm_settings or {})
        self._seed = seed
        self._study = optuna.create_study()

    def propose(self, number: int) -> Setting:
        """Return the setting of trial `number`; see `Engine`."""
        seed = int(np.random.default_rng(self._seed).integers(_LARGEST_SEED, size=number + 1)[number])
        self._study.sampler = self._sampler(seed=seed, **self._settings)
        trial = self._study.ask()
        _suggest(trial, self._space)
        # A trial left running would push later proposals away; a failed one is nothing to a sampler.
        self._study.tell(trial, state=TrialState.FAIL)
        drawn = {label: _to_raw(self._dimensions[label], each) for label, each in trial.params.items()}
        return decode(self._space, drawn)

    def tell(self, number: int, setting: Setting, loss: float | None) -> None:
        """Take in how trial `number` ended; see `Engine`."""
        point = encode(self._space, setting)
        told = FixedTrial({label: _from_raw(self._dimensions[label], raw) for label, raw in point.items()})
        _suggest(told, self._space)
        self._study.add_trial(
            create_trial(
                state=TrialState.FAIL if loss is None else TrialState.COMPLETE,
                value=loss,
                params=told.params,
                distributions=told.distributions,
            )
        )


def _suggest(trial: BaseTrial, space: Mapping[str, Any], prefix: str = "") -> None:
    """Let `trial` take a number for each dimension that is active; labels are those of `retune.space.walk`."""
    for name, entry in space.items():
        _suggest_entry(trial, entry, prefix + name)


def _suggest_entry(trial: BaseTrial, entry: Any, label: str) -> None:
    if isinstance(entry, Choice):
        index = trial.suggest_categorical(label, range(len(entry.options)))
        _suggest_entry(trial, entry.options[index], f"{label}[{index}]")
    elif isinstance(entry, d.Distribution):
        _SUGGESTED[type(entry)](trial, label, entry)
    elif isinstance(entry, Mapping):
        _suggest(trial, entry, f"{label}.")


# A stepped one is drawn as a count of steps: Optuna's multiples of a float are not ours to the last digit, it would
# move a bound that its own arithmetic takes for none, and on a logarithmic scale it knows no steps but 1.
_SUGGESTED: dict[type[d.Distribution], Callable[[BaseTrial, str, Any], Number]] = {
    d.Uniform: lambda trial, label, x: trial.suggest_float(label, x.low, x.high),
    d.LogUniform: lambda trial, label, x: trial.suggest_float(label, x.low, x.high, log=True),
    d.QUniform: lambda trial, label, x: trial.suggest_int(label, *x.steps()),
    d.QLogUniform: lambda trial, label, x: trial.suggest_int(label, *x.steps(), log=True),
    d.UniformInt: lambda trial, label, x: trial.suggest_int(label, x.low, x.high),
    d.RandInt: lambda trial, label, x: trial.suggest_int(label, x.low, x.high - 1),
}


def _to_raw(dimension: d.Distribution, number: Number) -> Number:
    return dimension.to_value(number * dimension.q) if isinstance(dimension, d.Quantized) else number


def _from_raw(dimension: d.Distribution, raw: Number) -> Number:
    return round(raw / dimension.q) if isinstance(dimension, d.Quantized) else raw
