"""Any estimator of scikit-learn, or of a module that is allowed, named by its import path."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from retune.data.table import Table
from retune.errors import BadInput
from retune.experiment import Experiment
from retune.functions import require_allowed
from retune.metrics import Problem
from retune.space import Parameters
from retune.trainers._columns import prepare_columns
from retune.trainers._parameters import broken_rule, did_you_mean, given_parameters
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
        """Return what holds of every estimator; `check` knows those that the experiment names."""
        return {_ESTIMATOR: ""}

    def check(self, experiment: Experiment) -> None:
        """Check that the estimators can be made, and that each parameter is one of theirs; see `Trainer`."""
        self.check_search(experiment)
        sections = given_parameters(experiment)
        paths = {str(value): where for where, name, value in sections if name == _ESTIMATOR}
        if _ESTIMATOR not in {*experiment.model.fixed, *experiment.searched}:
            raise BadInput(
                "model.fixed.estimator: is missing; name one, such as sklearn.ensemble.RandomForestRegressor"
            )
        if _ESTIMATOR not in experiment.untuned_parameters:
            raise BadInput("model.untuned.estimator: is missing, and the untuned model needs one")
        known: dict[str, object] = {}
        for path, where in paths.items():
            known |= _make(path, f"{where}.{_ESTIMATOR}", experiment.problem).get_params()
        for where, name, value in sections:
            if name == _ESTIMATOR:
                continue
            if name not in known:
                raise BadInput(f"{where}.{name}: {', '.join(paths)} has no such parameter; {did_you_mean(name, known)}")
            # Many a default is a name where a number would do as well, or a number where a fraction would.
            default = known[name]
            strict = isinstance(default, bool) or (isinstance(default, int) and name.rpartition("__")[2][:2] == "n_")
            if strict and (rule := broken_rule(value, default)):
                raise BadInput(f"{where}.{name} = {value!r}: {rule}")
        self._check_untuned(experiment)

    def _check_untuned(self, experiment: Experiment) -> None:
        """Check that its parameters are those of its own estimator, where the space has others too."""
        given = experiment.untuned_parameters
        path = str(given[_ESTIMATOR])
        known = _make(path, f"model.untuned.{_ESTIMATOR}", experiment.problem).get_params()
        for name in given:
            if name not in (_ESTIMATOR, *known):
                section = "untuned" if name in experiment.model.untuned else "fixed"
                raise BadInput(f"model.{section}.{name}: {path} has no such parameter; {did_you_mean(name, known)}")

    def estimator(self, parameters: Parameters, problem: Problem, seed: int, threads: int) -> BaseEstimator:
        """Make the estimator; see `TaskTrainer`."""
        rest = {name: value for name, value in parameters.items() if name != _ESTIMATOR}
        made = _make(str(parameters[_ESTIMATOR]), _ESTIMATOR, problem)
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


def _make(path: str, field: str, problem: Problem) -> Any:
    module, _, name = path.replace(":", ".").rpartition(".")
    if module.partition(".")[0] != "sklearn":
        require_allowed(field, path, module)
    try:
        made = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise BadInput(f"{field} = {path!r}: cannot be made: {error}") from error
    kind = getattr(get_tags(made), "estimator_type", None) if isinstance(made, BaseEstimator) else None
    wanted = "regressor" if problem == "regression" else "classifier"
    if kind != wanted:
        raise BadInput(
            f"{field} = {path!r}: is a {kind or type(made).__name__}, but problem {problem} needs a {wanted}"
        )
    return made


TRAINER = Sklearn()
