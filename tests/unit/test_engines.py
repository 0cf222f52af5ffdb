"""All engines that an experiment file can name pass the one conformance suite; and what is true of single ones."""

import inspect
import itertools
import json
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import hyperopt
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.engine_conformance import EngineConformance, awkward_for, build, search_trials
from unit.strategies import SPACE, spaces

from retune.dimensions import Choice, PChoice, Space
from retune.distributions import Distribution
from retune.search.grid_engine import GridEngine
from retune.search.optuna_engine import OptunaEngine
from retune.search_section import ENGINES, LACKS
from retune.space import Setting, decode, encode, grid_size

ALGORITHMS = [(engine, algorithm) for engine, algorithms in ENGINES.items() for algorithm in algorithms or [None]]


class TestEngines(EngineConformance):
    @pytest.fixture(scope="class", params=ALGORITHMS, ids=str)
    def search(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        engine, algorithm = request.param
        return {"engine": engine, "algorithm": algorithm}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(ENGINES, 2)), ids=str)
def test_a_search_goes_on_with_another_engine(first, second):
    space = awkward_for(first, second)
    trials = search_trials(build({"engine": first}, space), 25)
    engine = build({"engine": second}, space)
    for number, (setting, loss) in enumerate(trials):
        engine.tell(number, json.loads(json.dumps(setting)), loss)
    settings = [setting for setting, _ in search_trials(engine, 10, start=25)]
    checked = SPACE.validate_python(space)
    assert [decode(checked, encode(checked, setting)) for setting in settings] == settings
    anew = [setting for setting, _ in search_trials(build({"engine": second}, space), 10, start=25)]
    assert (settings != anew) == bool(ENGINES[second])  # it learns from the other's trials, if from any


def adapt(entry: Any, lacked: tuple[str, ...]) -> Any:
    """Return a space as JSON, with a stand-in for each dimension of a type that is lacked."""
    if isinstance(entry, list):
        return [adapt(each, lacked) for each in entry]
    if not isinstance(entry, dict):
        return entry
    if entry.get("type") not in lacked:
        return {name: adapt(each, lacked) for name, each in entry.items()}
    if entry["type"] == "pchoice":
        return {"type": "choice", "options": adapt(entry["options"], lacked)}
    return {"type": "quniform", "low": -1, "high": 1, "q": 0.3}


def spaces_for(engine: str) -> st.SearchStrategy[Space]:
    """Spaces of the types that `engine` has."""
    return spaces().map(lambda space: SPACE.validate_python(adapt(SPACE.dump_python(space), LACKS[engine])))


@given(spaces_for("optuna"))
@settings(max_examples=25)
def test_optuna_proposes_within_any_space(space):
    for algorithm in ENGINES["optuna"]:
        engine = OptunaEngine(space, algorithm, 1, {"n_startup_trials": 2} if algorithm == "tpe" else {})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for number in range(6):
                setting = engine.propose(number)
                assert decode(space, encode(space, setting)) == setting
                engine.tell(number, setting, float(number))


def draw(fields: dict[str, Any], count: int) -> list[Any]:
    engine = OptunaEngine(SPACE.validate_python({"x": fields}), "random", 5)
    return [engine.propose(number)["x"] for number in range(count)]


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({"type": "quniform", "low": 1, "high": 10, "q": 4}, [4, 8]),
        ({"type": "quniform", "low": 0, "high": 1, "q": 0.3}, [0.0, 0.3, 0.6, 0.9]),
        (
            {"type": "quniform", "low": 0, "high": 1, "q": 0.3333333333333333},
            [0.0, 0.333333333333, 0.666666666667, 1.0],
        ),
        ({"type": "qloguniform", "low": 3, "high": 10, "q": 2}, [4, 6, 8, 10]),
        ({"type": "qloguniform", "low": 0.05, "high": 0.4, "q": 0.1}, [0.1, 0.2, 0.3, 0.4]),
        ({"type": "qloguniform", "low": 1e-10, "high": 0.3, "q": 0.1}, [0.1, 0.2, 0.3]),
        ({"type": "uniformint", "low": 1, "high": 3}, [1, 2, 3]),
        ({"type": "randint", "low": 1, "high": 4}, [1, 2, 3]),
    ],
)
def test_optuna_draws_every_value_and_its_type(fields, values):
    assert repr(sorted(set(draw(fields, 100)))) == repr(values)


@pytest.mark.parametrize("fields", [{"type": "loguniform"}, {"type": "qloguniform", "q": 0.001}])
def test_optuna_draws_on_a_logarithmic_scale(fields):
    values = draw({**fields, "low": 0.001, "high": 1}, 300)
    assert sum(value < 0.0316 for value in values) / 300 == pytest.approx(0.5, abs=0.1)


def test_optuna_logs_nothing(caplog):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    logger = logging.getLogger("optuna")  # it has a handler of its own, and tells no other
    logger.addHandler(caplog.handler)
    try:
        search_trials(build({"engine": "optuna", "max_trials": 15}, awkward_for("optuna")), 15)
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.messages == []


def test_optuna_takes_its_algorithm_settings():
    space = awkward_for("optuna")
    default = search_trials(build({"engine": "optuna"}, space), 20)
    given_default = {"n_startup_trials": 10, "n_ei_candidates": 24}
    assert search_trials(build({"engine": "optuna", "algorithm_settings": given_default}, space), 20) == default
    for changed in ({"n_startup_trials": 3}, {"n_ei_candidates": 2}):
        search = {"engine": "optuna", "algorithm_settings": changed}
        assert search_trials(build(search, space), 20) != default


def test_optuna_tpe_finds_less_than_chance_does():
    space = awkward_for("optuna")

    def find_best(algorithm: str) -> list[float]:
        engines = [build({"engine": "optuna", "algorithm": algorithm}, space, seed) for seed in range(5)]
        return [min(loss for _, loss in search_trials(engine, 40) if loss is not None) for engine in engines]

    assert sum(find_best("tpe")) < sum(find_best("random"))


def list_settings(space: Mapping[str, Any]) -> list[Setting]:
    """Return all settings in order: an oracle apart from the code under test."""
    values = [list_values(entry) for entry in space.values()]
    return [dict(zip(space, combination, strict=True)) for combination in itertools.product(*values)]


def list_values(entry: Any) -> list[Any]:
    if isinstance(entry, (Choice, PChoice)):
        return [value for option in entry.options for value in list_values(option)]
    if isinstance(entry, Distribution):
        return [entry.value_at(index) for index in range(entry.size())]
    return list_settings(entry) if isinstance(entry, Mapping) else [entry]


def test_a_grid_proposes_every_setting_exactly_once():
    booster = {"kind": "dart", "drop": {"type": "quniform", "low": 0, "high": 1, "q": 0.5}}
    booster["mode"] = {"type": "choice", "options": ["a", {"b": {"type": "randint", "low": 0, "high": 2}}]}
    space = SPACE.validate_python(
        {
            "booster": {"type": "choice", "options": ["plain", booster]},
            "leaves": {"type": "qloguniform", "low": 1, "high": 12, "q": 4},
        }
    )
    engine = GridEngine(space)
    proposed = [engine.propose(number) for number in range(grid_size(space))]
    assert len({json.dumps(setting) for setting in proposed}) == len(proposed) == (1 + 3 * 3) * 3
    assert proposed == list_settings(space)
    assert proposed[:4] == [
        {"booster": "plain", "leaves": 4},
        {"booster": "plain", "leaves": 8},
        {"booster": "plain", "leaves": 12},
        {"booster": {"kind": "dart", "drop": 0.0, "mode": "a"}, "leaves": 4},
    ]


@given(spaces_for("grid").filter(lambda space: grid_size(space) <= 500))
def test_any_grid_is_proposed_in_the_order_of_its_file(space):
    engine = GridEngine(space)
    assert repr([engine.propose(number) for number in range(grid_size(space))]) == repr(list_settings(space))


def test_a_setting_of_a_huge_grid_is_found_at_once():
    space = SPACE.validate_python({name: {"type": "uniformint", "low": 0, "high": 2**40} for name in "abc"})
    last = GridEngine(space).propose(grid_size(space) - 1)
    assert last == {"a": 2**40, "b": 2**40, "c": 2**40}


def test_settings_proposed_beyond_a_grid_begin_anew():
    space = SPACE.validate_python({"x": {"type": "randint", "low": 0, "high": 3}})
    assert [GridEngine(space).propose(number)["x"] for number in range(2, 5)] == [2, 0, 1]


def warnings_of_building(caplog: pytest.LogCaptureFixture, **fields: Any) -> list[str]:
    caplog.clear()
    build(fields, {"x": {"type": "uniformint", "low": 0, "high": 99}})
    return caplog.messages


@pytest.mark.parametrize(
    ("engine", "setting", "tpe"),
    [("hyperopt", "n_startup_jobs", hyperopt.tpe.suggest), ("optuna", "n_startup_trials", optuna.samplers.TPESampler)],
)
def test_a_search_too_short_for_tpe_to_learn_is_warned_of(caplog, engine, setting, tpe):
    default = inspect.signature(tpe).parameters[setting].default
    expected = f"max_trials = {default} is not above {setting} = {default}: all proposals are random, "
    [message] = warnings_of_building(caplog, engine=engine, max_trials=default)
    assert message == expected + "and tpe learns from no trial"
    assert warnings_of_building(caplog, engine=engine, max_trials=default + 1) == []
    for max_trials, count in ((5, 1), (6, 0)):
        fields = {"max_trials": max_trials, "algorithm_settings": {setting: 5}}
        assert len(warnings_of_building(caplog, engine=engine, **fields)) == count


@pytest.mark.parametrize(
    "fields",
    [
        {"engine": "hyperopt", "algorithm": "rand"},
        {"engine": "hyperopt", "algorithm": "anneal"},
        {"engine": "hyperopt", "warm_start": {}},
        {"engine": "optuna", "algorithm": "random"},
        {"engine": "grid"},
    ],
    ids=str,
)
def test_nothing_is_warned_of_where_nothing_is_lost_or_a_warm_start_may_tell_more(caplog, fields):
    assert warnings_of_building(caplog, max_trials=1, **fields) == []
