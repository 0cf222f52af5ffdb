"""Any estimator of scikit-learn, or of a module that is allowed, named by its import path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

from retune.data.table import Table
from retune.errors import BadInput, one_line
from retune.experiment import Experiment
from retune.functions import require_allowed
from retune.metrics import Problem
from retune.space import Parameters, alternatives
from retune.trainers._columns import prepare_columns
from retune.trainers._parameters import Given, as_written, broken_rule, did_you_mean, extremes
from retune.trainers.base_task import Report, TaskTrainer

_ESTIMATOR = "estimator"


class Sklearn(TaskTrainer):
    """The parameter `estimator` is the import path of a class, or of a function that makes an estimator.

    Other parameters are the estimator's own; those of a step in a pipeline are `<step>__<parameter>`. `estimator` may
    be searched like any other, in a choice whose branches hold the parameters that go with it.
    """

    name = "sklearn"
    mlflow_flavor = "sklearn"
    requirements = ("mlflow", "scikit-learn", "numpy", "pandas")
    takes_infinity = False

    def defaults(self, problem: Problem) -> Mapping[str, object]:
        """Return what holds of every estimator; `check_given` knows those that the experiment names."""
        return {_ESTIMATOR: ""}

    def check(self, experiment: Experiment) -> None:
        """Check that the estimators can be made, and that what each is given is its own; see `Trainer`."""
        self.check_search(experiment)
        if _ESTIMATOR not in {*experiment.model.fixed, *experiment.searched}:
            raise BadInput(
                "model.fixed.estimator: is missing; name one, such as sklearn.ensemble.RandomForestRegressor"
            )
        if _ESTIMATOR not in experiment.untuned_parameters:
            raise BadInput("model.untuned.estimator: is missing, and the untuned model needs one")
        for given in _given_together(experiment):
            self.check_given(given, experiment.problem)

    def check_given(self, given: Sequence[Given], problem: Problem) -> None:
        """Check what is given to one estimator; see `Trainer`."""
        named = [(section, value) for section, name, value in given if name == _ESTIMATOR]
        if not named:
            where, beside = given[-1][0] if given else "model.fixed", ", ".join(name for _, name, _ in given)
            raise BadInput(f"{where}.{_ESTIMATOR}: is missing beside {beside}; name one, such as sklearn.svm.SVC")
        [(where, path)] = named
        made = _make(path, f"{where}.{_ESTIMATOR}", problem)
        known = made.get_params()
        for section, name, value in given:
            if name == _ESTIMATOR:
                continue
            if name not in known:
                raise BadInput(f"{section}.{name}: {path} has no such parameter; {did_you_mean(name, known)}")
            if rule := _broken_rule(made, name, value):
                raise BadInput(f"{section}.{name} = {as_written(value)}: {rule}")

    def estimator(self, parameters: Parameters, problem: Problem, seed: int, threads: int) -> BaseEstimator:
        """Make the estimator; see `TaskTrainer`."""
        rest = {name: value for name, value in parameters.items() if name != _ESTIMATOR}
        made = _make(parameters[_ESTIMATOR], _ESTIMATOR, problem)
        own = {"random_state": seed % 2**32, "n_jobs": threads}
        wanted = {name: value for name, value in own.items() if name in made.get_params()}
        nested = {n: v for n in made.get_params() for last, v in own.items() if n.endswith(f"__{last}")}
        return made.set_params(**{**wanted, **nested, **rest})

    def _fit(
        self, estimator: Any, table: Table, watched: Table | None, patience: int | None, report: Report | None
    ) -> Any:
        holey_sparse = sparse.issparse(table.features) and np.isnan(table.features.data).any()
        # Its trees know missing values in dense rows only.
        if not get_tags(estimator).input_tags.allow_nan or holey_sparse:
            estimator = Pipeline([("prepare", prepare_columns(table)), ("estimator", estimator)])
        return estimator.fit(table.features, table.labels)


def _given_together(experiment: Experiment) -> Iterator[list[Given]]:
    """Yield what the untuned estimator is given, and each of those in the space."""
    model = experiment.model
    fixed: list[Given] = [("model.fixed", name, value) for name, value in model.fixed.items()]
    untuned: list[Given] = [("model.untuned", name, value) for name, value in model.untuned.items()]
    yield [*fixed, *untuned]
    for searched in alternatives(experiment.search.space, _ESTIMATOR):
        yield [*fixed, *(("search.space", name, value) for name, value in searched)]


def _make(path: object, field: str, problem: Problem) -> Any:
    module, _, name = path.replace(":", ".").rpartition(".") if isinstance(path, str) else ("", "", "")
    if not module or not name:
        raise BadInput(f"{field} = {as_written(path)}: must be a whole import path, such as sklearn.svm.SVC")
    own = module.partition(".")[0] != "sklearn"
    if own:
        require_allowed(field, str(path), module)
    try:
        found = getattr(import_module(module), name)
        # Nobody allowed what else scikit-learn has, such as functions that fetch data, or delete them.
        made = found() if own or (isinstance(found, type) and issubclass(found, BaseEstimator)) else found
    except Exception as error:  # a module of the user's may raise anything
        raise BadInput(f"{field} = {path!r}: cannot be made: {one_line(error)}") from error
    kind = getattr(get_tags(made), "estimator_type", None) if isinstance(made, BaseEstimator) else None
    wanted = "regressor" if problem == "regression" else "classifier"
    if kind != wanted:
        raise BadInput(
            f"{field} = {path!r}: is a {kind or type(made).__name__}, but problem {problem} needs a {wanted}"
        )
    return made


def _broken_rule(made: Any, name: str, value: object) -> str | None:
    """Return why an estimator, or its step that a parameter is of, cannot take a value; None if it can."""
    step, _, own = name.rpartition("__")
    owner = made.get_params().get(step) if step else made
    constraints = getattr(owner, "_parameter_constraints", {})  # of scikit-learn's own, and of some others
    if own in constraints:
        for each in extremes(value):
            try:
                validate_parameter_constraints(constraints, {own: each}, type(owner).__name__)
            except InvalidParameterError as error:
                return str(error)
        return None
    # Many a default is a name where a number would do as well, or a number where a fraction would.
    default = made.get_params()[name]
    strict = isinstance(default, bool) or (isinstance(default, int) and own.startswith("n_"))
    return broken_rule(value, default) if strict else None


TRAINER = Sklearn()
