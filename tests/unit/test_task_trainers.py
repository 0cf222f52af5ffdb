"""What every single-machine trainer must do, whatever its library: one suite, without Spark."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import lightgbm
import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_info
from unit.experiments import SEARCH, build_experiment

from retune.data.table import Table
from retune.errors import BadInput
from retune.experiment import TRAINERS
from retune.metrics import Problem
from retune.scoring import predict_classes, score_model
from retune.search.engine import build_engine
from retune.trainers import load_trainer
from retune.trainers.base_task import TaskTrainer

CLASSES: dict[Problem, int] = {"regression": 0, "binary": 2, "multiclass": 3}
QUICK: dict[str, dict[Problem, dict[str, Any]]] = {
    "lightgbm": {p: {"n_estimators": 15, "num_leaves": 8, "bagging_fraction": 0.8, "bagging_freq": 1} for p in CLASSES},
    "xgboost": {p: {"n_estimators": 15, "max_depth": 3, "subsample": 0.8} for p in CLASSES},
    "sklearn": {
        "regression": {"estimator": "sklearn.ensemble.RandomForestRegressor", "n_estimators": 10},
        "binary": {"estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 10},
        "multiclass": {
            "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
            "max_features": 0.5,
            "max_iter": 10,
            "max_leaf_nodes": 8,
        },
    },
    "keras": {p: {"layers": 1, "units": 16, "epochs": 20, "learning_rate": 0.02, "dropout": 0.05} for p in CLASSES},
}
TASK_TRAINERS = [t for t in map(load_trainer, TRAINERS) if isinstance(t, TaskTrainer)]
NEEDS_TENSORFLOW = pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")


def marks_of(trainer: TaskTrainer) -> list[pytest.MarkDecorator]:
    return [NEEDS_TENSORFLOW] if trainer.name == "keras" else []


@dataclass(frozen=True)
class Case:
    trainer: TaskTrainer
    problem: Problem
    table: Table

    @property
    def classes(self) -> int:
        return CLASSES[self.problem]

    def fit(self, table: Table | None = None, seed: int = 7, threads: int = 1, **more: Any) -> Any:
        parameters = QUICK[self.trainer.name][self.problem] | more
        return self.trainer.fit(table or self.table, parameters, self.problem, seed, threads)


def plant(problem: Problem, rows: int = 400) -> Table:
    """Features that tell the label, one that does not, a category, and missing values."""
    drawn = np.random.default_rng(1)
    features = drawn.random((rows, 4))
    features[:, 3] = drawn.integers(0, 3, rows)
    score = 3 * features[:, 0] - 2 * features[:, 1] + (features[:, 3] == 1)
    cuts = {"regression": [], "binary": [0.7], "multiclass": [0.2, 1.2]}[problem]
    labels = np.digitize(score, cuts).astype(float) if cuts else score
    features[drawn.random(rows) < 0.02, 2] = np.nan
    return Table(features, labels, np.where(np.arange(rows) % 4 == 0, 0, -1).astype(np.int32), categories=(3,))


@pytest.fixture(
    scope="module",
    params=[pytest.param((t, p), id=f"{t.name}-{p}", marks=marks_of(t)) for t in TASK_TRAINERS for p in CLASSES],
)
def case(request: pytest.FixtureRequest) -> Case:
    trainer, problem = request.param
    return Case(trainer, problem, plant(problem))


def predicted(case: Case, model: Any, features: Any = None) -> np.ndarray:
    given = case.table.features if features is None else features
    return predict_classes(model, given, case.classes)[1] if case.classes else np.asarray(model.predict(given))


@pytest.mark.parametrize("trainer", [pytest.param(t, id=t.name, marks=marks_of(t)) for t in TASK_TRAINERS])
def test_what_a_model_needs_goes_by_the_names_of_the_packages_that_are_here(trainer):
    assert all(version(name) for name in trainer.requirements)


def test_planted_signal_is_learnt_from_rows_it_has_not_seen(case):
    train, validation = case.table.split(0)
    metric = "accuracy" if case.classes else "r2"
    found = score_model(case.fit(train), validation.features, validation.labels, case.problem, case.classes, metric)
    assert found[metric] > 0.75


def test_importances_say_what_the_label_hangs_on_whatever_the_classes_are_called(case):
    names = np.array(["a", "b", "c"])[case.table.labels.astype(int)] if case.classes else case.table.labels
    model = case.fit(Table(case.table.features, names, case.table.parts, case.table.categories))
    found = case.trainer.importances(model)
    if found is None:
        assert not hasattr(case.trainer.estimator(QUICK[case.trainer.name][case.problem], case.problem, 7, 1), "feature_importances_")  # fmt: skip  # noqa: E501
        return
    assert len(found) == 4
    assert np.argmax(found) == 0
    assert np.argmin(found) in (2, 3)


def test_the_same_seed_gives_the_same_model_and_another_one_another(case):
    np.testing.assert_array_equal(predicted(case, case.fit()), predicted(case, case.fit()))
    assert (predicted(case, case.fit(seed=8)) != predicted(case, case.fit())).any()


def test_more_threads_change_nothing(case):
    np.testing.assert_allclose(predicted(case, case.fit(threads=2)), predicted(case, case.fit()), rtol=1e-6)


def test_it_does_not_use_more_threads_than_it_is_told(case):
    made = case.trainer.estimator(QUICK[case.trainer.name][case.problem], case.problem, 7, 3)
    assert getattr(made, "threads", None) == 3 or made.get_params().get("n_jobs", 3) == 3


def test_nor_does_an_estimator_that_asks_nobody(case, monkeypatch):
    used = set()

    def look_around(*_: Any) -> None:
        used.update(pool["num_threads"] for pool in threadpool_info())

    monkeypatch.setattr(type(case.trainer), "_fit", look_around)
    case.fit(threads=1)
    assert used == {1}


def test_rows_mapped_from_a_file_are_not_written_to(case):
    features, labels = case.table.features.copy(), case.table.labels.copy()
    features.setflags(write=False)
    labels.setflags(write=False)
    model = case.fit(Table(features, labels, case.table.parts, case.table.categories))
    np.testing.assert_array_equal(predicted(case, model), predicted(case, case.fit()))


def test_sparse_rows_are_learnt_from_too(case):
    if QUICK[case.trainer.name][case.problem].get("estimator", "").endswith("HistGradientBoostingClassifier"):
        pytest.skip("scikit-learn's own histogram trees take dense rows only")
    table = Table(sparse.csr_matrix(case.table.features), case.table.labels, case.table.parts, case.table.categories)
    train, validation = table.split(0)
    metric = "accuracy" if case.classes else "r2"
    scores = score_model(case.fit(train), validation.features, validation.labels, case.problem, case.classes, metric)
    assert scores[metric] > 0.7


def test_classes_may_be_as_the_data_spell_them(case):
    if not case.classes:
        return
    for names in (np.array(["no", "yes", "well"])[: case.classes], np.array([-5, 7, 9])[: case.classes]):
        labels = np.sort(names)[case.table.labels.astype(int)]
        model = case.fit(Table(case.table.features, labels, case.table.parts, case.table.categories))
        assert np.mean(model.predict(case.table.features) == labels) > 0.8
        assert list(model.classes_) == sorted(names)


def test_a_model_is_told_its_size_and_survives_being_written(case):
    model = case.fit()
    assert case.trainer.model_size(model) > 1000
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(predicted(case, again), predicted(case, model))


def test_a_fit_stops_early_and_tells_where(case):
    name = case.trainer.rounds_parameter
    search = SEARCH | {"early_stopping_rounds": 5}
    if name is None:
        with pytest.raises(BadInput, match=r"search\.early_stopping_rounds = 5: .* cannot stop early"):
            case.trainer.check_search(build_experiment(search=search))
        return
    train, validation = case.table.split(0)
    parameters = QUICK[case.trainer.name][case.problem] | {name: 500}
    model = case.trainer.fit(train, parameters, case.problem, 7, 1, watched=validation, patience=5)
    rounds = case.trainer.rounds(model)
    assert 0 < rounds < 500
    assert case.trainer.rounds(case.fit()) == QUICK[case.trainer.name][case.problem][name]


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({}, r"model\.fixed\.estimator: is missing"),
        ({"estimator": "os.system"}, r"RETUNE_ALLOWED_MODULES = '' does not allow module os"),
        ({"estimator": "sklearn.ensemble.NoSuchForest"}, r"cannot be made: .*NoSuchForest"),
        ({"estimator": "sklearn.ensemble.RandomForestClassifier"}, "is a classifier, .* needs a regressor"),
        ({"estimator": "sklearn.ensemble.RandomForestRegressor", "n_estimator": 3}, "did you mean n_estimators"),
        (
            {"estimator": "sklearn.ensemble.RandomForestRegressor", "n_estimators": 3.5},
            r"n_estimators = 3\.5: .* must be an int in the range \[1, inf\)",
        ),
        (
            {"estimator": "sklearn.ensemble.RandomForestRegressor", "criterion": "squared"},
            r"criterion = 'squared': .* must be a str among",
        ),
        ({"estimator": "sklearn.preprocessing.StandardScaler"}, "is a .*, but problem regression needs a regressor"),
        ({"estimator": "sklearn.show_versions"}, "is a function, but problem regression needs a regressor"),
        ({"estimator": "sklearn.svm"}, "is a module, but problem regression needs a regressor"),
        ({"estimator": "SVR"}, "estimator = 'SVR': must be a whole import path, such as sklearn.svm.SVC"),
        ({"estimator": 5}, "estimator = 5: must be a whole import path"),
    ],
    ids=str,
)
def test_a_wrong_estimator_or_parameter_is_named(fixed, message):
    space = {"max_depth": {"type": "uniformint", "low": 2, "high": 5}}
    experiment = build_experiment(model={"trainer": "sklearn", "fixed": fixed}, search=SEARCH | {"space": space})
    with pytest.raises(BadInput, match=message):
        load_trainer("sklearn").check(experiment)


def test_no_function_of_scikit_learn_is_called_for_being_named(tmp_path, monkeypatch):
    (tmp_path / "kept").touch()
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    experiment = build_experiment(
        model={"trainer": "sklearn", "fixed": {"estimator": "sklearn.datasets.clear_data_home"}}
    )
    with pytest.raises(BadInput, match="clear_data_home': is a function, but"):
        load_trainer("sklearn").check(experiment)
    assert (tmp_path / "kept").exists()


def test_an_estimator_of_ones_own_may_fail_in_any_way(tmp_path, monkeypatch):
    (tmp_path / "of_mine.py").write_text("def make():\n    raise RuntimeError('no licence')\n", encoding="utf-8")
    (tmp_path / "broken_of_mine.py").write_text("def make(:\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RETUNE_ALLOWED_MODULES", "of_mine, broken_of_mine")
    for path, message in {"of_mine:make": "RuntimeError: no licence", "broken_of_mine:make": "SyntaxError"}.items():
        experiment = build_experiment(model={"trainer": "sklearn", "fixed": {"estimator": path}})
        with pytest.raises(BadInput, match=rf"^model\.fixed\.estimator = '{path}': cannot be made: {message}"):
            load_trainer("sklearn").check(experiment)


FOREST = {"estimator": "sklearn.ensemble.RandomForestRegressor", "max_depth": {"type": "randint", "low": 2, "high": 9}}
RIDGE = {"estimator": "sklearn.linear_model.Ridge", "alpha": {"type": "loguniform", "low": 0.1, "high": 10}}


@pytest.mark.parametrize(
    ("options", "fixed", "message"),
    [
        (
            [FOREST, {**RIDGE, "max_depth": 3}],
            {},
            r"search\.space\.max_depth: sklearn\.linear_model\.Ridge has no such",
        ),
        ([FOREST, RIDGE], {"n_jobs": 1}, r"model\.fixed\.n_jobs: sklearn\.linear_model\.Ridge has no such"),
        ([{**FOREST, "max_depth": {"type": "normal", "mean": 5, "std": 1}}], {}, "must be an int in the range"),
        ([FOREST, {"alpha": 3}], {}, r"search\.space\.estimator: is missing beside alpha"),
        (
            [{**FOREST, "max_depth": {"type": "uniformint", "low": 0, "high": 9}}],
            {},
            r"search\.space\.max_depth = \{type: uniformint, low: 0, high: 9\}: .* \[1, inf\)",
        ),
    ],
)
def test_each_estimator_of_a_space_is_held_to_its_own_parameters(options, fixed, message):
    model = {"trainer": "sklearn", "fixed": fixed, "untuned": {"estimator": "sklearn.linear_model.LinearRegression"}}
    search = SEARCH | {"space": {"family": {"type": "choice", "options": options}}}
    with pytest.raises(BadInput, match=message):
        load_trainer("sklearn").check(build_experiment(model=model, search=search))


def test_the_untuned_estimator_has_its_own_parameters_not_those_of_others_in_the_space():
    forest = {"estimator": "sklearn.ensemble.RandomForestRegressor", "max_depth": 3}
    space = {"how": {"type": "choice", "options": [forest]}}
    model = {"trainer": "sklearn", "untuned": {"estimator": "sklearn.linear_model.Ridge", "max_depth": 3}}
    with pytest.raises(BadInput, match=r"model\.untuned\.max_depth: sklearn\.linear_model\.Ridge has no such"):
        load_trainer("sklearn").check(build_experiment(model=model, search=SEARCH | {"space": space}))


def test_estimators_may_be_searched_with_the_parameters_of_each():
    options = [
        {"estimator": "sklearn.ensemble.RandomForestRegressor", "max_depth": {"type": "randint", "low": 2, "high": 9}},
        {"estimator": "sklearn.svm.SVR", "C": {"type": "loguniform", "low": 0.1, "high": 10}},
    ]  # fmt: skip
    model = {"trainer": "sklearn", "untuned": {"estimator": "sklearn.linear_model.Ridge"}}
    search = SEARCH | {"space": {"family": {"type": "choice", "options": options}}}
    load_trainer("sklearn").check(build_experiment(model=model, search=search))


CANDIDATES = {
    "num_leaves": [-1, 0, 1, 2, 131_072, 131_073],
    "booster": ["gbtree", "gbforest"], "boosting_type": ["dart", "GBDT", "gbddt"],
    "grow_policy": ["lossguide", "best"], "tree_method": ["hist", "best"], "sampling_method": ["uniform", "best"],
}  # fmt: skip
SHARES = ("subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode")
TAKEN_IN_VAIN = {"n_estimators": (-1, 0), **dict.fromkeys(SHARES, (0,))}
"""What XGBoost takes without a word, though then there is nothing to fit."""


def is_taken(trainer: TaskTrainer, problem: Problem, **parameters: Any) -> bool:
    try:
        trainer.fit(plant(problem, 40), {"n_estimators": 2, **parameters}, problem, 7, 1)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_what_a_parameter_must_be_is_what_its_library_takes(library):
    trainer = load_trainer(library)
    defaults, ranges = trainer.defaults("regression"), trainer.ranges("regression")
    for name in ranges.keys() & defaults.keys() - {"objective"}:
        for value in CANDIDATES.get(name, [-1, 0, 1, 2, 2.0, 0.5, 1.5]):
            if isinstance(value, float) and isinstance(defaults[name], int):
                continue  # the default's type says so
            if library == "lightgbm" or value not in TAKEN_IN_VAIN.get(name, ()):
                assert ranges[name][1](value) == is_taken(trainer, "regression", **{name: value}), f"{name} = {value}"


@pytest.mark.parametrize(
    ("library", "problem", "objectives"),
    [
        ("lightgbm", "regression", ["MAE", "l2_root", "huber", "quantile"]),
        ("lightgbm", "binary", ["binary", "cross_entropy"]),
        ("lightgbm", "multiclass", ["softmax", "ova"]),
        ("xgboost", "binary", ["reg:logistic", "binary:hinge"]),
        ("xgboost", "multiclass", ["multi:softprob", "multi:softmax"]),
    ],
)
def test_an_objective_that_fits_the_problem_is_taken(library, problem, objectives):
    trainer = load_trainer(library)
    _, fine = trainer.ranges(problem)["objective"]
    for objective in objectives:
        assert fine(objective)
        assert is_taken(trainer, problem, objective=objective)


def test_a_parameter_of_lightgbm_goes_by_one_name():
    trainer, aliases = load_trainer("lightgbm"), lightgbm.basic._ConfigAliases
    known = trainer.defaults("regression")
    pairs = [(name, same) for name in known for same in (aliases.get(name) & known.keys()) - {name}]
    assert len(pairs) == 8
    for name, same in [*pairs, *((same, name) for name, same in pairs)]:
        model = {"trainer": "lightgbm", "fixed": {name: 1}}
        space = {same: {"type": "choice", "options": [1]}}
        with pytest.raises(BadInput, match=rf"^search\.space\.{same}: is model\.fixed\.{name} by another name"):
            trainer.check(build_experiment(model=model, search=SEARCH | {"space": space}))


@pytest.mark.parametrize("trainer", TASK_TRAINERS, ids=lambda trainer: trainer.name)
@pytest.mark.parametrize("problem", CLASSES)
def test_defaults_are_in_range(trainer, problem):
    defaults = trainer.defaults(problem)
    for name, (rule, fine) in trainer.ranges(problem).items():
        assert defaults.get(name) is None or fine(defaults[name]), f"{name} = {defaults[name]}: {rule}"


def make_pipeline():
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer

    return make_pipeline(SplineTransformer(), Ridge())


def test_a_pipeline_of_ones_own_gets_the_parameters_of_its_steps(monkeypatch):
    monkeypatch.setenv("RETUNE_ALLOWED_MODULES", __name__)
    monkeypatch.setitem(
        __import__("sys").modules, __name__, __import__("types").SimpleNamespace(make_pipeline=make_pipeline)
    )
    parameters = {"estimator": f"{__name__}:make_pipeline", "ridge__alpha": 5.0}
    trainer = load_trainer("sklearn")
    made = trainer.estimator(parameters, "regression", 7, 1)
    assert made.get_params()["ridge__alpha"] == 5.0
    assert made.get_params()["ridge__random_state"] == 7
    table = plant("regression")
    model = trainer.fit(table, parameters, "regression", 7, 1)  # missing values are filled before it
    assert np.isfinite(model.predict(table.features)).all()


XGBOOST_GRIDS: dict[str, tuple[dict[str, Any], int]] = {
    "small": (
        {
            "n_estimators": {"type": "choice", "options": [400, 500]},
            "colsample_bylevel": {"type": "choice", "options": [0.1, 1]},
            "subsample": {"type": "choice", "options": [0.5, 1]},
        },
        8,
    ),
    "large": (
        {
            "n_estimators": {"type": "quniform", "low": 300, "high": 700, "q": 100},
            "colsample_bylevel": {"type": "choice", "options": [0.01, 0.1, 0.5, 1]},
            "subsample": {"type": "quniform", "low": 0.5, "high": 1, "q": 0.1},
        },
        120,
    ),
}


@pytest.mark.parametrize("constants", ["fixed", "space"])
@pytest.mark.parametrize("grid", XGBOOST_GRIDS)
def test_usual_grids_of_xgboost_are_accepted_and_their_values_are_as_written(grid, constants):
    space, size = XGBOOST_GRIDS[grid]
    same = {
        "max_depth": 4, "reg_alpha": 1, "reg_lambda": 1, "colsample_bytree": 1, "learning_rate": 0.1,
        "objective": "multi:softprob",
    }  # fmt: skip
    if constants == "space":
        space = {**space, **{name: {"type": "choice", "options": [value]} for name, value in same.items()}}
    search = {"engine": "grid", "metric": "log_loss", "validation": "cross_validation", "space": space}
    model = {"trainer": "xgboost", "fixed": same if constants == "fixed" else {}}
    experiment = build_experiment(problem="multiclass", model=model, search=search)
    load_trainer("xgboost").check(experiment)
    assert experiment.search.trials == size
    engine = build_engine(experiment.search)
    settings = [engine.propose(number) for number in range(size)]
    assert len({str(setting) for setting in settings}) == size
    assert {len(repr(setting["subsample"])) for setting in settings} <= {1, 3}
    assert {type(setting["n_estimators"]) for setting in settings} == {int}
