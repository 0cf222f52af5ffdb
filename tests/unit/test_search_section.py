"""The section `search`: what each broken one is told, and what of it engines and trials are given."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from unit.strategies import SPACE, points, spaces

from retune.dimensions import Space
from retune.search_section import Search, parse_constraint
from retune.space import decode, flatten, locate, walk

RATE = {"type": "loguniform", "low": 0.01, "high": 0.3}
LEAVES = {"type": "uniformint", "low": 3, "high": 31}
DROP = {"type": "uniform", "low": 0, "high": 1}
BOOSTER = {"type": "choice", "options": [{"kind": "gbdt"}, {"kind": "dart", "drop": DROP}]}
GOOD = {"metric": "rmse", "max_trials": 12, "space": {"rate": RATE, "leaves": LEAVES, "booster": BOOSTER}}
POINT = {"rate": 0.1, "leaves": 31, "kind": "dart", "drop": 0.5}
GRID = {"engine": "grid", "space": {"leaves": LEAVES}}


def read(**changes: Any) -> Search:
    return Search.model_validate(GOOD | changes)


def find_error(**changes: Any) -> tuple[str, str]:
    """Return the field and the rule of the one error of a section."""
    with pytest.raises(ValidationError) as raised:
        read(**changes)
    (error,) = raised.value.errors()
    field = error.get("ctx", {}).get("field") or "search." + ".".join(str(part) for part in error["loc"])
    return field, error["msg"]


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        (
            {"engine": "grid", "space": {"leaves": LEAVES, "rate": RATE}},
            "search.space.rate",
            "a grid needs discrete values, and loguniform is continuous; use quniform, uniformint or choice",
        ),
        (
            {"engine": "grid", "space": {"booster": BOOSTER}},
            "search.space.booster[1].drop",
            "a grid needs discrete values, and uniform is continuous; use quniform, uniformint or choice",
        ),
        (
            {"engine": "grid", "space": {"x": {"type": "normal", "mean": 0, "std": 1}}},
            "search.space.x",
            "engine grid has no normal; use another type, or engine hyperopt",
        ),
        (
            {**GRID, "max_grid": 28},
            "search.space",
            "is a grid of more than max_grid = 28 settings; search less, or raise it",
        ),
        (
            {"engine": "optuna", "space": {"x": {"type": "lognormal", "mean": 3, "std": 4}}},
            "search.space.x",
            "engine optuna has no lognormal; use another type, or engine hyperopt",
        ),
        (
            {"engine": "optuna", "space": {"x": {"type": "pchoice", "options": [1], "probabilities": [1]}}},
            "search.space.x",
            "engine optuna has no pchoice; use another type, or engine hyperopt",
        ),
        ({"max_trials": None}, "search.max_trials", "max_trials is needed with engine hyperopt"),
        ({"engine": "optuna", "max_trials": None}, "search.max_trials", "max_trials is needed with engine optuna"),
    ],
)
def test_a_space_or_budget_that_the_engine_cannot_take_is_refused(changes, field, rule):
    assert find_error(**changes) == (field, rule)


def test_a_grid_that_is_too_large_is_told_its_size():
    with pytest.raises(ValidationError) as raised:
        read(**GRID, max_grid=28)
    assert raised.value.errors()[0]["ctx"]["value"] == "29 settings"
    assert read(**GRID, max_grid=29).trials == 12


def test_a_grid_ends_by_itself():
    assert read(**GRID, max_trials=None).trials == 29
    assert read(**GRID, max_trials=40).trials == 29


@pytest.mark.parametrize(
    ("engine", "algorithm", "rule"),
    [
        ("optuna", "rand", "must be one of tpe, random for engine optuna"),
        ("optuna", "anneal", "must be one of tpe, random for engine optuna"),
        ("hyperopt", "random", "must be one of tpe, rand, anneal for engine hyperopt"),
        ("grid", "tpe", "must be left out for engine grid"),
    ],
)
def test_an_algorithm_of_another_engine_is_refused(engine, algorithm, rule):
    space = {"leaves": LEAVES}
    assert find_error(engine=engine, algorithm=algorithm, space=space) == ("search.algorithm", rule)


@pytest.mark.parametrize(("engine", "algorithm"), [("hyperopt", "tpe"), ("optuna", "tpe"), ("grid", "")])
def test_the_algorithm_is_the_first_of_its_engine(engine, algorithm):
    assert read(engine=engine, space={"leaves": LEAVES}).algorithm_name == algorithm


@pytest.mark.parametrize(
    ("changes", "name", "rule"),
    [
        ({"engine": "hyperopt"}, "n_startup_trials", "hyperopt tpe has no such setting; it has n_startup_jobs, "),
        ({"engine": "optuna"}, "gamma", "optuna tpe has no such setting; it has n_startup_trials, n_ei_candidates"),
        ({"engine": "optuna", "algorithm": "random"}, "seed", "optuna random has no such setting; it has none"),
        ({"algorithm": "anneal"}, "gamma", "hyperopt anneal has no such setting; it has avg_best_idx, shrink_coef"),
        ({**GRID}, "seed", "grid has no such setting; it has none"),
    ],
)
def test_an_algorithm_setting_that_is_unknown_is_refused(changes, name, rule):
    field, message = find_error(**changes, algorithm_settings={name: 1})
    assert field == f"search.algorithm_settings.{name}"
    assert message.startswith(rule)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("n_startup_jobs", 2.5, "must be a whole number"),
        ("n_startup_jobs", 0, "must be greater than 0"),
        ("n_EI_candidates", -1, "must be greater than 0"),
        ("gamma", 0, "must be greater than 0"),
        ("gamma", -0.25, "must be greater than 0"),
    ],
)
def test_an_algorithm_setting_of_a_wrong_value_is_refused(name, value, rule):
    assert find_error(algorithm_settings={name: value}) == (f"search.algorithm_settings.{name}", rule)


@pytest.mark.parametrize("value", ["5", True, None, [5]])
def test_an_algorithm_setting_that_is_no_number_is_refused(value):
    with pytest.raises(ValidationError, match=r"algorithm_settings\.n_startup_jobs"):
        read(algorithm_settings={"n_startup_jobs": value})


def test_an_algorithm_setting_is_kept():
    given = {"n_startup_jobs": 5, "gamma": 0.3, "prior_weight": 2}
    assert read(algorithm_settings=given).algorithm_settings == given


@pytest.mark.parametrize(
    ("point", "rule"),
    [
        ({**POINT, "rate": 0.5}, r"^rate = 0\.5 lies outside"),
        ({**POINT, "leaves": 31.5}, r"^leaves = 31\.5 lies outside"),
        ({"rate": 0.1, "kind": "gbdt"}, "^leaves is missing$"),
        ({"rate": 0.1, "leaves": 31, "kind": "rf"}, "^booster is missing$"),
        ({**POINT, "drop": 1.5}, "booster|drop"),
        ({**POINT, "kind": "gbdt"}, "^drop: no parameter of the space, or not of this branch$"),
        ({**POINT, "depth": 3}, "^depth: no parameter of the space, or not of this branch$"),
        ({}, "^rate is missing$"),
    ],
)
def test_a_point_that_is_not_of_the_space_is_refused(point, rule):
    with pytest.raises(ValidationError) as raised:
        read(points_to_evaluate=[POINT, point])
    (error,) = raised.value.errors()
    assert error["ctx"]["field"] == "search.points_to_evaluate.1"
    with pytest.raises(ValueError, match=rule):
        locate(read().space, point)
    assert error["msg"] == error["ctx"]["rule"]


def test_points_are_given_as_the_engine_would_propose_them():
    search = read(points_to_evaluate=[POINT, {"rate": 0.2, "leaves": 3, "kind": "gbdt"}])
    assert search.given_points == [
        {"rate": 0.1, "leaves": 31, "booster": {"kind": "dart", "drop": 0.5}},
        {"rate": 0.2, "leaves": 3, "booster": {"kind": "gbdt"}},
    ]
    assert read(points_to_evaluate="champion").given_points == []


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"validation": "cross_validation"}, "a trial has a model for each fold"),
        ({"objective": "mine:loss"}, "a function of one's own can log its models itself"),
        ({"runner": "spark_trials"}, "SparkTrials keeps none"),
    ],
)
def test_models_of_all_trials_are_refused_where_a_trial_has_not_just_one(entries, reason):
    with pytest.raises(ValidationError, match=f"{reason}; use best"):
        read(log_models="all", **entries)
    assert read(log_models="best", **entries).log_models == "best"


@pytest.mark.parametrize("early_stop", [{}, {"minimum_gain": 0.1}, {"trials": 5, "function": "mine.stop:early"}])
def test_early_stop_has_either_trials_or_function(early_stop):
    field, rule = find_error(early_stop=early_stop)
    assert field == "search.early_stop"
    assert rule.endswith("must have either trials or function")


@pytest.mark.parametrize("early_stop", [{"trials": 5}, {"function": "mine.stop:early"}])
def test_early_stop_takes_one_of_them(early_stop):
    assert read(early_stop=early_stop).early_stop.model_dump(exclude_defaults=True) == early_stop


@pytest.mark.parametrize("function", ["early", "mine.stop.early", "mine.stop:", ":early", "mine stop:early"])
def test_a_function_that_is_no_import_path_is_refused(function):
    assert find_error(early_stop={"function": function})[0] == "search.early_stop.function"
    assert find_error(objective=function)[0] == "search.objective"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("0s", "Value error, must be more than 0s and at most 366d"),
        ("400d", "Value error, must be more than 0s and at most 366d"),
        (0, "Input should be greater than 0"),
        (-1, "Input should be greater than 0"),
    ],
)
@pytest.mark.parametrize("field", ["timeout", "trial_timeout", "warm_start.max_age"])
def test_a_duration_of_nothing_or_of_years_is_refused(field, value, rule):
    outer, _, inner = field.partition(".")
    assert find_error(**{outer: {inner: value} if inner else value}) == (f"search.{field}", rule)


def test_durations_are_seconds():
    search = read(timeout="30m", trial_timeout="90 s", warm_start={"max_age": "90d"})
    assert (search.timeout, search.trial_timeout, search.warm_start.max_age) == (1800, 90, 90 * 86400)


@pytest.mark.parametrize("text", ["a <= 5", " a<=5 ", "a <= 5e0", "a <= +5.0"])
def test_a_constraint_is_read(text):
    assert parse_constraint(text) == ("a", "<=", 5.0)


def with_names_of_their_own(entry: Any, label: str = "") -> Any:
    """Return a space as JSON in which no two branches share a parameter, and each has one that is drawn."""
    if isinstance(entry, list):
        return [with_names_of_their_own(each, f"{label}{index}") for index, each in enumerate(entry)]
    if not isinstance(entry, Mapping):
        return entry
    if "type" in entry:
        options = {"options": with_names_of_their_own(entry["options"], label)} if "options" in entry else {}
        return {**entry, **options}
    renamed = {label + name: with_names_of_their_own(each, label + name) for name, each in entry.items()}
    return {label: {"type": "uniform", "low": 0, "high": 1}, **renamed} if label else renamed


def has_branch(space: Space) -> bool:
    return any(isinstance(option, Mapping) for _, each in walk(space) for option in getattr(each, "options", []))


@st.composite
def located(draw: st.DrawFn, apart: bool) -> tuple[Space, dict[str, Any]]:
    """A space with branches, whose parameters name them where they are told apart, and a setting of it."""
    space = draw(spaces().filter(has_branch))
    if apart:
        space = SPACE.validate_python(with_names_of_their_own(SPACE.dump_python(space)))
    return space, decode(space, draw(points(space)))


def choose(options: list[Any], value: Any) -> tuple[Space, dict[str, Any]]:
    return SPACE.validate_python({"x": {"type": "choice", "options": options}}), {"x": value}


@given(located(apart=True))
@example(choose(["plain", {"drop": DROP}], {"drop": 0.5}))
@example(choose([{"mode": "plain"}, {"drop": DROP}], {"drop": 0.5}))
@example(choose([{"drop": DROP}, {"drop": DROP, "more": DROP}], {"drop": 0.5, "more": 0.2}))
@example(choose(["plain", {"x": "dart", "drop": DROP}], {"x": "dart", "drop": 0.5}))
def test_parameters_lead_back_to_their_setting(drawn):
    space, setting = drawn
    assert repr(locate(space, flatten(setting))) == repr(setting)


@given(located(apart=False))
@example(choose([{"drop": DROP}, {"drop": DROP, "more": DROP}], {"drop": 0.5, "more": 0.2}))
def test_parameters_that_several_branches_have_lead_to_one_that_gives_them(drawn):
    space, setting = drawn
    assert repr(sorted(flatten(locate(space, flatten(setting))).items())) == repr(sorted(flatten(setting).items()))


def test_a_choice_that_a_point_leaves_out_is_missing():
    space, _ = choose(["plain", "dart"], "dart")
    with pytest.raises(ValueError, match=r"^x is missing$"):
        locate(space, {})


@pytest.mark.parametrize(("name", "value"), [("infra_retries", 1), ("max_failed_trials", 3), ("trial_timeout", "10m")])
def test_spark_trials_is_refused_what_it_would_ignore(name, value):
    with pytest.raises(ValidationError, match="SparkTrials has none; leave it out"):
        read(runner="spark_trials", **{name: value})


def test_one_field_is_not_given_by_both_of_its_names():
    assert read(parallelism=2).parallel_trials == 2
    with pytest.raises(ValidationError, match="is parallel_trials by another name; use one"):
        read(parallelism=2, parallel_trials=2)
