"""Dense networks for tables by Keras, with TensorFlow below: an extra, imported by the first fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import Any

from pyspark.sql import SparkSession

from retune.data.table import Table
from retune.errors import BadInput
from retune.functions import load_function
from retune.metrics import Problem
from retune.space import Parameters
from retune.trainers._parameters import Given, Range, above, at_least, half_open, one_of
from retune.trainers.base_task import Report, TaskTrainer

# https://keras.io/api/layers/activations and https://keras.io/api/optimizers: names are checked without Keras.
ACTIVATIONS = (
    *("celu", "elu", "exponential", "gelu", "hard_sigmoid", "hard_tanh", "leaky_relu", "linear", "mish", "relu"),
    *("relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "swish", "tanh"),
)
OPTIMIZERS = (
    *("adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lion", "nadam"),
    *("rmsprop", "sgd"),
)
# `units` may be a list as well, so its default, 64, would be a wrong type to hold to.
_NETWORK: dict[str, object] = {"layers": 2, "units": None, "activation": "relu", "dropout": 0.0}
_TRAINING: dict[str, object] = {
    "optimizer": "adam",
    "learning_rate": 0.001,
    "batch_size": 32,
    "epochs": 50,
    "builder": "",
}
_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def _are_units(value: object) -> bool:
    units = value if isinstance(value, list) else [value]
    return bool(units) and all(type(each) is int and each > 0 for each in units)


_RANGES: dict[str, Range] = {
    "layers": at_least(0),
    "units": ("must be a whole number greater than 0, or a list of such, one for each hidden layer", _are_units),
    "activation": one_of(*ACTIVATIONS),
    "optimizer": one_of(*OPTIMIZERS),
    "dropout": half_open(0, 1),
    "learning_rate": above(0),
    "batch_size": at_least(1),
    "epochs": at_least(1),
}


def _tensorflow_package() -> str:
    """Return which package TensorFlow came in: without code for GPUs, it is another."""
    try:
        version("tensorflow-cpu")
    except PackageNotFoundError:
        return "tensorflow"
    return "tensorflow-cpu"


class Keras(TaskTrainer):
    """Hidden layers as `layers` and `units` say, or a network of the user's own by `builder`."""

    name = "keras"
    mlflow_flavor = "keras"
    requirements = ("mlflow", "scikit-learn", "keras", _tensorflow_package(), "numpy", "pandas")
    rounds_parameter = "epochs"
    reports = True
    takes_infinity = False

    def require_installed(self) -> None:
        """Check that TensorFlow and Keras are here; see `Trainer`."""
        if find_spec("tensorflow") is None or find_spec("keras") is None:
            raise BadInput("model.trainer = 'keras': TensorFlow is not installed; make setup-keras")

    def require(self, spark: SparkSession) -> None:
        """Check that TensorFlow and Keras are on the driver; see `Trainer`."""
        self.require_installed()

    def defaults(self, problem: Problem) -> Mapping[str, object]:
        """Return the parameters of a network that retune builds; `check_given` knows those of a builder."""
        return {**_NETWORK, **_TRAINING}

    def ranges(self, problem: Problem) -> Mapping[str, Range]:
        """Return what a network that retune builds can have; see `Trainer`."""
        return _RANGES

    def check_given(self, given: Sequence[Given], problem: Problem) -> None:
        """Check names, types and ranges, and that builders are there and allowed; see `Trainer`."""
        builders = [(section, str(value)) for section, name, value in given if name == "builder" and value]
        ours = _TRAINING if builders else {**_NETWORK, **_TRAINING}
        known = dict(ours)
        for section, path in builders:
            self.require_installed()
            _network_module()  # before a module of the user's imports Keras with another library below
            known |= _own(load_function(f"{section}.builder", path))
        ranges = {name: allowed for name, allowed in _RANGES.items() if name in ours}
        self.check_values(given, known, ranges)
        for section, name, value in given:
            if value is None and name in ranges and ours[name] is not None:
                raise BadInput(f"{section}.{name} = None: {ranges[name][0]}")

    def load_library(self, threads: int) -> None:
        """Import TensorFlow, which takes seconds, and hold it to so many threads; see `TaskTrainer`."""
        _network_module().hold_to(threads)

    def estimator(self, parameters: Parameters, problem: Problem, seed: int, threads: int) -> Any:
        """Return the network's recipe, which `fit` follows; see `TaskTrainer`."""
        network, given = _network_module(), {**_NETWORK, **_TRAINING, **parameters}
        if given["builder"]:
            function = load_function("builder", str(given["builder"]))
            build = partial(function, **{name: parameters[name] for name in _own(function) if name in parameters})
        else:
            build = partial(network.build_dense, **{name: given[name] for name in _NETWORK})
        training = {name: given[name] for name in _TRAINING if name != "builder"}
        return network.Recipe(build, problem, seed, threads, **training)

    def _fit(
        self, estimator: Any, table: Table, watched: Table | None, patience: int | None, report: Report | None
    ) -> Any:
        # What prepares the inputs is fitted with the network, by its recipe.
        return estimator.fit(table, watched, patience, report)

    def rounds(self, model: Any) -> int:
        """Return the epoch whose weights the model has, counted from 1; see `TaskTrainer`."""
        return int(model.epochs_)


def _network_module() -> Any:
    # Keras could stand on another library as well, by its own configuration.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # TensorFlow tells of its build and of each graph; what goes wrong is an exception besides.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return import_module("retune.trainers._keras_network")


def _own(builder: Callable[..., Any]) -> dict[str, object]:
    """Return the parameters that a builder takes from the experiment, with their defaults."""
    taken = signature(builder).parameters.values()
    return {each.name: None if each.default is Parameter.empty else each.default
            for each in taken if each.kind in _NAMED and each.name not in ("inputs", "outputs")}  # fmt: skip


TRAINER = Keras()
