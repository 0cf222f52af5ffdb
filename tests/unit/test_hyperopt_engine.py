"""Hyperopt as an engine: what it proposes is what Hyperopt's own loop would."""

import gc
import math
import statistics
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import STATUS_FAIL, STATUS_OK, Trials, fmin
from hypothesis import given, settings
from unit.strategies import SPACE, spaces

from retune.dimensions import Space
from retune.search import hyperopt_engine
from retune.search.hyperopt_engine import HyperoptEngine, build, to_hyperopt
from retune.search_section import Search
from retune.space import Setting, decode, encode

ALGORITHMS = ["tpe", "rand", "anneal"]
# Bounds are multiples of q, so that Hyperopt itself stays within them.
ALL_TYPES = SPACE.validate_python(
    {
        "uniform": {"type": "uniform", "low": -1, "high": 1},
        "loguniform": {"type": "loguniform", "low": 0.001, "high": 0.5},
        "quniform": {"type": "quniform", "low": 0, "high": 100, "q": 10},
        "qloguniform": {"type": "qloguniform", "low": 3, "high": 999, "q": 3},
        "normal": {"type": "normal", "mean": 5, "std": 2},
        "lognormal": {"type": "lognormal", "mean": 3, "std": 4},
        "branch": {
            "type": "choice",
            "options": [
                "none",
                {
                    "qnormal": {"type": "qnormal", "mean": 5, "std": 2, "q": 0.5},
                    "qlognormal": {"type": "qlognormal", "mean": 3, "std": 4, "q": 2},
                },
                {
                    "uniformint": {"type": "uniformint", "low": 3, "high": 31},
                    "randint": {"type": "randint", "low": -5, "high": 5},
                    "pchoice": {"type": "pchoice", "options": ["a", True, [1, 2]], "probabilities": [0.2, 0.5, 0.3]},
                },
            ],
        },
    }
)

# Hyperopt draws multiples of q beyond these bounds, and the options overlap.
AWKWARD = ALL_TYPES | SPACE.validate_python(
    {
        "clipped": {"type": "quniform", "low": 1, "high": 10, "q": 4},
        "overlapping": {
            "type": "choice",
            "options": [{"type": "uniform", "low": 0, "high": 1}, {"type": "uniform", "low": 0.5, "high": 2}],
        },
    }
)


def compute_loss(setting: Setting) -> float | None:
    """Return a loss that hangs on the branch too; a quarter of all settings fail."""
    branch = setting["branch"]
    inner = 0.0 if branch == "none" else branch.get("uniformint", 10) / 10 + branch.get("qnormal", 3) / 5
    inner += setting.get("clipped", 0) + setting.get("overlapping", 0)
    loss = abs(setting["uniform"]) + abs(math.log(setting["loguniform"])) + setting["quniform"] / 50 + inner
    return None if round(1000 * setting["uniform"]) % 4 == 0 else loss


def search_with_engine(space: Space, algorithm: str, seed: int, trials: int, **settings: Any) -> list[Setting]:
    engine = HyperoptEngine(space, algorithm, seed, settings)
    settings = []
    for number in range(trials):
        settings.append(engine.propose(number))
        engine.tell(number, settings[-1], compute_loss(settings[-1]))
    return settings


def search_with_fmin(space: Space, algorithm: str, seed: int, trials: int, **settings: Any) -> list[Setting]:
    """Run Hyperopt's own loop; return its settings, read from what it kept."""
    kept = Trials()

    def point_of(document: dict[str, Any]) -> dict[str, Any]:
        return {label: values[0] for label, values in document["misc"]["vals"].items() if values}

    def objective(_: Any) -> dict[str, Any]:
        # The trial that fmin tries now is its newest; this way the two loops see their settings in the same form.
        loss = compute_loss(decode(space, point_of(kept._dynamic_trials[len(seen)])))
        seen.append(loss)
        return {"status": STATUS_FAIL} if loss is None else {"status": STATUS_OK, "loss": loss}

    seen: list[float | None] = []
    fmin(
        objective,
        to_hyperopt(space),
        algo=partial(getattr(hyperopt, algorithm).suggest, **settings),
        max_evals=trials,
        trials=kept,
        rstate=np.random.default_rng(seed),
        show_progressbar=False,
        verbose=False,
    )
    assert 0 < sum(loss is None for loss in seen) < trials
    return [decode(space, point_of(document)) for document in kept.trials]


@pytest.mark.parametrize(("space", "seed"), [(ALL_TYPES, 0), (AWKWARD, 42)], ids=["all types", "awkward"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_proposes_exactly_what_fmin_does(space, algorithm, seed):
    assert search_with_engine(space, algorithm, seed, 40) == search_with_fmin(space, algorithm, seed, 40)


@pytest.mark.parametrize(
    ("algorithm", "changed"),
    [
        ("tpe", {"n_startup_jobs": 5}),
        ("tpe", {"n_EI_candidates": 3}),
        ("tpe", {"gamma": 0.6}),
        ("tpe", {"prior_weight": 0.2}),
        ("anneal", {"avg_best_idx": 5.0}),
        ("anneal", {"shrink_coef": 0.5}),
    ],
)
def test_with_settings_of_the_algorithm_it_proposes_exactly_what_fmin_does_with_them(algorithm, changed):
    proposed = search_with_engine(ALL_TYPES, algorithm, 0, 30, **changed)
    assert proposed == search_with_fmin(ALL_TYPES, algorithm, 0, 30, **changed)
    assert proposed != _search_by_default(algorithm)


@cache
def _search_by_default(algorithm: str) -> list[Setting]:
    return search_with_engine(ALL_TYPES, algorithm, 0, 30)


def test_the_search_section_gives_the_settings_of_the_algorithm():
    section = {"metric": "r2", "max_trials": 1, "seed": 0, "space": ALL_TYPES}
    section["algorithm_settings"] = {"n_startup_jobs": 5, "gamma": 0.6}
    engine = build(Search.model_validate(section))
    proposed = search_with_engine(ALL_TYPES, "tpe", 0, 12, n_startup_jobs=5, gamma=0.6)
    for number, setting in enumerate(proposed):
        assert engine.propose(number) == setting
        engine.tell(number, setting, compute_loss(setting))


def test_fmin_gives_the_objective_the_values_that_we_decode():
    seen: list[Setting] = []

    def objective(setting: Setting) -> float:
        seen.append(setting)
        return 0.0

    rstate = np.random.default_rng(3)
    options = {"algo": hyperopt.rand.suggest, "max_evals": 20, "rstate": rstate, "show_progressbar": False}
    fmin(objective, to_hyperopt(ALL_TYPES), **options)
    engine = HyperoptEngine(ALL_TYPES, "rand", 3)
    for number, theirs in enumerate(seen):
        ours = engine.propose(number)
        assert ours == {**theirs, "branch": _as_json(theirs["branch"])}
        assert type(ours["quniform"]) is int


def _as_json(branch: Any) -> Any:
    """Return a branch as JSON has it: Hyperopt makes tuples of lists."""
    if not isinstance(branch, dict):
        return branch
    return {name: list(value) if isinstance(value, tuple) else value for name, value in branch.items()}


@given(spaces())
@settings(max_examples=25)
def test_it_proposes_within_any_space(space):
    for algorithm in ALGORITHMS:
        engine = HyperoptEngine(space, algorithm, 1)
        for number in range(3):
            setting = engine.propose(number)
            assert decode(space, encode(space, setting)) == setting
            engine.tell(number, setting, float(number))


def draw(fields: dict[str, Any], count: int) -> list[Any]:
    engine = HyperoptEngine(SPACE.validate_python({"x": fields}), "rand", 5)
    return [engine.propose(number)["x"] for number in range(count)]


@pytest.mark.parametrize("kind", ["loguniform", "qloguniform"])
def test_bounds_on_a_logarithmic_scale_are_in_the_parameters_own_units(kind):
    step = {"q": 0.001} if kind == "qloguniform" else {}
    values = draw({"type": kind, "low": 0.001, "high": 0.5, **step}, 300)
    assert min(values) >= 0.001
    assert max(values) <= 0.5
    assert statistics.median(values) == pytest.approx(math.sqrt(0.001 * 0.5), rel=0.3)


def test_a_log_normal_has_the_mean_and_std_that_were_asked_for():
    values = draw({"type": "lognormal", "mean": 3, "std": 1}, 2000)
    assert statistics.mean(values) == pytest.approx(3, rel=0.03)
    assert statistics.stdev(values) == pytest.approx(1, rel=0.06)
    assert min(values) > 0


def test_a_quantized_log_normal_has_the_mean_that_was_asked_for():
    assert statistics.mean(draw({"type": "qlognormal", "mean": 30, "std": 10, "q": 5}, 2000)) == pytest.approx(
        30, rel=0.03
    )


def test_both_ends_of_an_integer_range_are_drawn_as_documented():
    assert set(draw({"type": "uniformint", "low": 1, "high": 4}, 200)) == {1, 2, 3, 4}
    assert set(draw({"type": "randint", "low": 1, "high": 4}, 200)) == {1, 2, 3}


def test_options_are_drawn_with_their_probabilities():
    values = draw({"type": "pchoice", "options": ["a", "b"], "probabilities": [0.2, 0.8]}, 500)
    assert values.count("a") / 500 == pytest.approx(0.2, abs=0.05)


def test_it_draws_from_a_wide_integer_range():
    space = SPACE.validate_python({"x": {"type": "uniformint", "low": 0, "high": 2**40}})
    engine = HyperoptEngine(space, "tpe", 1)
    drawn = []
    for number in range(25):
        setting = engine.propose(number)
        drawn.append(setting["x"])
        engine.tell(number, setting, 1.0)
    assert {type(value) for value in drawn} == {int}
    assert 0 <= min(drawn) < 2**39 < max(drawn) <= 2**40
    assert len(set(drawn)) == 25


@pytest.mark.parametrize("before", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("fails", [False, True], ids=["proposes", "fails"])
def test_the_garbage_collector_is_off_while_hyperopt_draws_and_then_as_it_was(monkeypatch, before, fails):
    seen = []

    def suggest(*arguments: Any) -> list[Any]:
        seen.append(gc.isenabled())
        if fails:
            raise ValueError("no proposal")
        return hyperopt.rand.suggest(*arguments)

    monkeypatch.setitem(hyperopt_engine.ALGORITHMS, "rand", suggest)
    engine = HyperoptEngine(ALL_TYPES, "rand", 0)
    (gc.enable if before else gc.disable)()
    try:
        with pytest.raises(ValueError, match="no proposal") if fails else nullcontext():
            engine.propose(0)
        after = gc.isenabled()
    finally:
        gc.enable()
    assert (seen, after) == ([False], before)
