"""What a trainer says of an experiment's parameters, before any session starts."""

from importlib.metadata import version
from typing import Any

import pytest
from unit.experiments import SEARCH, build_experiment

from retune.errors import BadInput
from retune.experiment import Experiment, Model
from retune.spark import Slots
from retune.trainers import load_trainer
from retune.trainers.base import Trainer

TRAINERS = [load_trainer(name) for name in Model.model_fields["trainer"].annotation.__args__]  # type: ignore[union-attr]
LIGHTGBM = load_trainer("synapseml_lightgbm")


def experiment_with(section: str, **entries: Any) -> Experiment:
    """Return an experiment that says `entries`, and nothing else, in one section."""
    model: dict[str, Any] = {"trainer": "synapseml_lightgbm"}
    space: dict[str, Any] = {"lambdaL1": {"type": "uniform", "low": 0.1, "high": 0.3}}
    if section == "space":
        space = entries
    else:
        model[section] = entries
    return build_experiment(model=model, search=SEARCH | {"space": space})


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda trainer: trainer.name)
class TestEveryTrainer:
    def test_it_goes_by_the_name_that_files_give_it(self, trainer: Trainer):
        assert load_trainer(trainer.name) is trainer

    def test_it_names_what_its_models_need(self, trainer: Trainer):
        assert "mlflow" in trainer.requirements
        assert all(folder.is_dir() for folder in trainer.model_code)
        try:
            trainer.require_installed()
        except BadInput as reason:
            pytest.skip(str(reason))
        assert all(version(package) for package in trainer.requirements)

    def test_it_has_parameters_for_every_problem(self, trainer: Trainer):
        assert all(trainer.defaults(problem) for problem in trainer.problems)

    @pytest.mark.parametrize("name", ["featuresCol", "labelCol", "predictionCol", "weightCol", "num_workers", "self"])
    def test_it_keeps_to_itself_what_it_sets(self, trainer: Trainer, name: str):
        assert all(name not in trainer.defaults(problem) for problem in trainer.problems)


def test_a_problem_that_a_trainer_does_not_know_is_refused():
    experiment = build_experiment(
        model={"trainer": "spark_gbt"}, problem="multiclass", search=SEARCH | {"metric": "accuracy"}
    )
    with pytest.raises(BadInput, match=r"^problem = 'multiclass': spark_gbt is for regression and binary only$"):
        load_trainer("spark_gbt").check(experiment)


def test_early_stopping_is_refused_where_there_are_no_rounds():
    experiment = build_experiment(model={"trainer": "spark_gbt"}, search=SEARCH | {"early_stopping_rounds": 5})
    with pytest.raises(BadInput, match=r"^search\.early_stopping_rounds = 5: spark_gbt cannot stop early"):
        load_trainer("spark_gbt").check(experiment)


def test_autologging_is_refused_where_mlflow_would_lose_fits():
    search = SEARCH | {"autolog": True, "parallel_trials": 2}
    with pytest.raises(BadInput, match=r"^search\.autolog = true: .* parallel_trials is 2, use 1$"):
        LIGHTGBM.check(build_experiment(search=search))
    LIGHTGBM.check(build_experiment(search=search | {"parallel_trials": 1}))


@pytest.mark.parametrize(
    ("values", "slots", "parallel", "threads", "mode", "at_once"),
    [
        (100_000, Slots(1, 2), 1, 1, "bulk", 2),  # a second thread would cost more than it gains
        (8_000_000, Slots(1, 2), 1, 2, "bulk", 2),
        (8_000_000, Slots(1, 2), 2, 1, "bulk", 2),
        (8_000_000, Slots(4, 8), 1, 4, "bulk", 8),  # each executor has its part of the rows
        (100_000_000, Slots(1, 4), 1, 4, "streaming", 1),
        (40_000_000, Slots(1, 4), 1, 4, "bulk", 1),
        (40_000_000, Slots(1, 4), 2, 2, "streaming", 1),
        (0, Slots(1, 1), 1, 1, "bulk", 1),
    ],
)
def test_synapseml_uses_the_machine_by_what_a_fit_reads(values, slots, parallel, threads, mode, at_once):
    plan = LIGHTGBM.plan(values, slots, 2**30, parallel)
    assert plan.parameters == {"numThreads": threads, "dataTransferMode": mode}
    assert plan.parallel == at_once
    assert f"{threads} of " in plan.reason
    assert f"{mode} transfer" in plan.reason


def test_an_experiment_with_known_parameters_passes():
    LIGHTGBM.check(build_experiment())


@pytest.mark.parametrize("section", ["fixed", "untuned", "space"])
def test_an_unknown_parameter_is_named_with_one_that_is_close(section):
    value = {"type": "uniform", "low": 0, "high": 1} if section == "space" else 0.5
    where = "search.space" if section == "space" else f"model.{section}"
    message = rf"^{where}\.learningrate: synapseml_lightgbm has no such parameter; did you mean learningRate"
    with pytest.raises(BadInput, match=message):
        LIGHTGBM.check(experiment_with(section, learningrate=value))


def test_where_no_name_is_close_all_are_told():
    with pytest.raises(BadInput, match=r"no such parameter; it has .*baggingFraction, .*numLeaves"):
        LIGHTGBM.check(experiment_with("fixed", xyzzy=1))


def test_a_parameter_deep_in_a_branch_is_checked():
    branch = {
        "type": "choice",
        "options": [{"boostingType": "dart", "dropRat": {"type": "uniform", "low": 0, "high": 1}}],
    }
    with pytest.raises(BadInput, match=r"^search\.space\.dropRat: .* did you mean dropRate"):
        LIGHTGBM.check(experiment_with("space", boosting=branch))


@pytest.mark.parametrize(
    "reserved",
    ["featuresCol", "labelCol", "numBatches", "weightCol", "validationIndicatorCol", "self"],
)
def test_a_parameter_that_retune_sets_itself_is_refused(reserved):
    with pytest.raises(BadInput, match=rf"^model\.fixed\.{reserved}: synapseml_lightgbm has no such parameter"):
        LIGHTGBM.check(experiment_with("fixed", **{reserved: "x"}))


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("numLeaves", 7.5, "7.5: must be a whole number, as its default 31 is"),
        ("numLeaves", "7", "'7': must be a whole number"),
        ("numLeaves", True, "True: must be a whole number"),
        ("learningRate", "fast", "'fast': must be a number, as its default 0.1 is"),
        ("learningRate", False, "False: must be a number"),
        ("objective", 3, "3: must be text"),
        ("isProvideTrainingMetric", 1, "1: must be true or false, as its default False is"),
        ("numLeaves", [7], r"\[7\]: must be a whole number"),
    ],
)
@pytest.mark.parametrize("section", ["fixed", "untuned"])
def test_a_value_of_another_type_is_refused(section, name, value, rule):
    with pytest.raises(BadInput, match=rf"^model\.{section}\.{name} = {rule}"):
        LIGHTGBM.check(experiment_with(section, **{name: value}))


@pytest.mark.parametrize(
    "entries",
    [
        {"numLeaves": 7, "learningRate": 1, "objective": "mae", "isProvideTrainingMetric": True},
        {"numLeaves": 7.0, "metric": None},
    ],
)
def test_a_value_of_the_right_type_passes(entries):
    LIGHTGBM.check(experiment_with("fixed", **entries))


@pytest.mark.parametrize(
    ("name", "distribution", "rule"),
    [
        ("numLeaves", {"type": "uniform", "low": 3, "high": 31}, "draws fractions, .*; use uniformint, or a whole q"),
        ("numLeaves", {"type": "quniform", "low": 3, "high": 31, "q": 0.5}, "draws fractions"),
        ("numLeaves", {"type": "qnormal", "mean": 31, "std": 5, "q": 0.5}, "draws fractions"),
        ("numLeaves", {"type": "choice", "options": [7, 15.5]}, r"must be a whole number"),
        (
            "objective",
            {"type": "uniform", "low": 0, "high": 1},
            "draws numbers, but the parameter takes text; use choice",
        ),
        ("isProvideTrainingMetric", {"type": "randint", "low": 0, "high": 2}, "draws numbers, .* takes true or false"),
    ],
)
def test_a_distribution_that_draws_another_type_is_refused(name, distribution, rule):
    with pytest.raises(BadInput, match=rf"^search\.space\.{name} = .*: {rule}"):
        LIGHTGBM.check(experiment_with("space", **{name: distribution}))


@pytest.mark.parametrize(
    ("section", "entries", "message"),
    [
        ("fixed", {"numLeaves": 1}, r"model\.fixed\.numLeaves = 1: must be from 2 to 131072"),
        ("fixed", {"boostingType": "gbddt"}, r"model\.fixed\.boostingType = 'gbddt': must be one of gbdt, "),
        ("fixed", {"featureFraction": 0}, r"model\.fixed\.featureFraction = 0: must be greater than 0 and at most 1"),
        (
            "space",
            {"learningRate": {"type": "uniform", "low": -0.1, "high": 1}},
            r"search\.space\.learningRate = \{type: uniform, low: -0\.1, high: 1\}: must be a number greater than 0",
        ),
        ("space", {"lambdaL1": {"type": "quniform", "low": -1, "high": 1, "q": 0.5}}, "must be 0 or more"),
    ],
)
def test_a_value_out_of_range_is_refused(section, entries, message):
    with pytest.raises(BadInput, match=message):
        LIGHTGBM.check(experiment_with(section, **entries))


@pytest.mark.parametrize(
    ("trainer", "problem", "objective"),
    [
        ("lightgbm", "binary", "multiclass"),
        ("lightgbm", "regression", "binary"),
        ("synapseml_lightgbm", "multiclass", "binary"),
        ("xgboost", "binary", "binary:logitraw"),  # its probabilities would be none
        ("xgboost", "regression", "binary:logistic"),
        ("xgboost_spark", "regression", "rank:pairwise"),
    ],
)
def test_an_objective_that_does_not_fit_the_problem_is_refused(trainer, problem, objective):
    experiment = build_experiment(
        model={"trainer": trainer, "fixed": {"objective": objective}},
        problem=problem,
        search=SEARCH | {"metric": "r2" if problem == "regression" else "accuracy"},
    )
    with pytest.raises(BadInput, match=rf"^model\.fixed\.objective = '{objective}': must be one of "):
        load_trainer(trainer).check(experiment)


@pytest.mark.parametrize(
    "distribution",
    [
        {"type": "uniform", "low": 0, "high": 1},  # all but never 0 itself
        {"type": "lognormal", "mean": 0.1, "std": 1},
        {"type": "choice", "options": [0.1, {"type": "loguniform", "low": 0.01, "high": 0.5}]},
    ],
)
def test_a_distribution_within_its_range_passes(distribution):
    LIGHTGBM.check(experiment_with("space", learningRate=distribution))


def test_a_librarys_own_default_may_be_asked_for_as_null():
    depth = {"type": "choice", "options": [None, 3, {"type": "quniform", "low": 4, "high": 8, "q": 2.0}]}
    search = SEARCH | {"space": {"max_depth": depth}}
    load_trainer("xgboost").check(build_experiment(model={"trainer": "xgboost"}, search=search))


@pytest.mark.parametrize(
    "distribution",
    [
        {"type": "uniformint", "low": 3, "high": 31},
        {"type": "randint", "low": 3, "high": 31},
        {"type": "quniform", "low": 3, "high": 31, "q": 2},
        {"type": "quniform", "low": 3.5, "high": 31, "q": 2.0},
        {"type": "qlognormal", "mean": 31, "std": 5, "q": 1},
        {"type": "choice", "options": [7, 15, {"type": "uniformint", "low": 20, "high": 31}]},
    ],
)
def test_a_distribution_of_whole_numbers_fits_a_whole_parameter(distribution):
    LIGHTGBM.check(experiment_with("space", numLeaves=distribution))
