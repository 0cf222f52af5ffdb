"""How a network is built and fitted, and the scikit-learn model that it becomes; only here TensorFlow is imported."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from retune.data.table import Table
from retune.metrics import Problem
from retune.trainers._columns import prepare_columns
from retune.trainers.base_task import Report

log = logging.getLogger(__name__)
_UNITS = 64
_SCORED_AT_ONCE = 4096
tf.get_logger().setLevel(logging.ERROR)  # it warns of every further model of a process that it is traced anew


def hold_to(threads: int) -> None:
    """Limit TensorFlow's threads in this process, and have the same seed give the same model.

    TensorFlow takes its threads with the first operation and keeps them: whoever comes later with another number gets
    those.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for device in tf.config.list_physical_devices("GPU"):
            # Else the first of several trials takes all of its memory.
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError as error:
        log.warning("TensorFlow keeps the threads it began with: %s", error)
    tf.config.experimental.enable_op_determinism()


def build_dense(inputs: int, outputs: int, layers: int, units: Any, activation: str, dropout: float) -> keras.Model:
    """Return hidden layers with dropout behind each, and a linear layer of outputs.

    Args:
        inputs: How many numbers a row has.
        outputs: How many it is to become.
        layers: How many hidden layers, each of `units`; a list of units says itself how many.
        units: Of a hidden layer; None is the default.
        activation: Keras's name.
        dropout: The fraction of a hidden layer's outputs that is left out in each step of a fit.
    """
    widths = units if isinstance(units, list) else [units or _UNITS] * layers
    network = keras.Sequential([keras.Input((inputs,))])
    for width in widths:
        network.add(keras.layers.Dense(width, activation=activation))
        if dropout:
            network.add(keras.layers.Dropout(dropout))
    network.add(keras.layers.Dense(outputs))
    return network


@dataclass(frozen=True)
class Recipe:
    """All that a fit hangs on beside its rows.

    Attributes:
        build: Makes a network of so many `inputs` and `outputs`, linear ones: logits of the classes, or the target in
            standard deviations from its mean.
        problem: What kind of model.
        seed: Of the first weights, the order of the rows and dropout.
        threads: How many the fit may use.
        optimizer: Keras's name.
        learning_rate: The optimizer's.
        batch_size: Rows of a step.
        epochs: Passes over the rows, at most.
    """

    build: Callable[..., Any]
    problem: Problem
    seed: int
    threads: int
    optimizer: str
    learning_rate: float
    batch_size: int
    epochs: int

    def fit(self, table: Table, watched: Table | None, patience: int | None, report: Report | None) -> Pipeline:
        """Return a fitted pipeline of preparation, network and last step; see `TaskTrainer.fit`.

        Raises:
            ArithmeticError: The loss of a step is no finite number, or that of an epoch, on the rows watched.
        """
        hold_to(self.threads)
        keras.utils.clear_session()  # one process fits many
        keras.utils.set_random_seed(self.seed % 2**32)
        target = _Number.of(table.labels) if self.problem == "regression" else _Classes(np.unique(table.labels))
        prepare = prepare_columns(table).set_params(sparse_threshold=0)  # a network takes dense rows
        inputs = _as_inputs(prepare.fit_transform(table.features))
        network = self._compile(inputs.shape[1], target)
        validation = None
        if watched is not None:
            known = target.knows(watched.labels)
            rows = _as_inputs(prepare.transform(watched.features[known]))
            validation = (rows, target.encode(watched.labels[known]))
        epochs = self._train(network, inputs, target.encode(table.labels), validation, patience, report)
        # By a method of the network itself, so that the model needs no code of ours.
        predict = FunctionTransformer(network.predict, kw_args={"batch_size": _SCORED_AT_ONCE, "verbose": 0})
        model = Pipeline([("prepare", prepare), ("network", predict), ("target", target.last_step())])
        model.epochs_ = epochs
        return model

    def _compile(self, inputs: int, target: _Classes | _Number) -> keras.Model:
        network = self.build(inputs=inputs, outputs=target.outputs)
        optimizer = {"class_name": self.optimizer, "config": {"learning_rate": float(self.learning_rate)}}
        network.compile(optimizer=keras.optimizers.get(optimizer), loss=target.loss())
        return network

    def _train(
        self,
        network: keras.Model,
        inputs: np.ndarray,
        labels: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray] | None,
        patience: int | None,
        report: Report | None,
    ) -> int:
        """Fit the network; return the epoch whose weights it has, counted from 1."""
        watch = _Watch(report)
        callbacks: list[Any] = [watch]
        stop = None
        if validation is not None and patience:
            stop = keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True)
            callbacks.append(stop)
        network.fit(
            inputs,
            labels,
            batch_size=int(self.batch_size),
            epochs=int(self.epochs),
            validation_data=validation,
            callbacks=callbacks,
            verbose=0,
        )
        return watch.epochs if stop is None else int(stop.best_epoch) + 1


class _Watch(keras.callbacks.Callback):
    """Reports each epoch, and ends a fit that has gone astray on the rows watched."""

    def __init__(self, report: Report | None) -> None:
        super().__init__()
        self._report, self.epochs = report, 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Look at one step."""
        self._require_finite({"train_loss": float((logs or {}).get("loss", 0.0))})

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Take in one epoch; Keras's `loss` and `val_loss` go by retune's names."""
        told = logs or {}
        self.epochs = epoch + 1
        names = {"loss": "train_loss", "val_loss": "validation_loss"}
        losses = {name: float(told[key]) for key, name in names.items() if key in told}
        self._require_finite(losses)
        if self._report:
            self._report(self.epochs, losses)

    def _require_finite(self, losses: Mapping[str, float]) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise ArithmeticError(f"{name} is {value} after {self.epochs} epochs; lower the learning_rate")


@dataclass(frozen=True)
class _Classes:
    """A target of classes: the network gives a logit for each."""

    names: np.ndarray

    @property
    def outputs(self) -> int:
        return len(self.names)

    def loss(self) -> Any:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def knows(self, labels: np.ndarray) -> np.ndarray:
        """Return which labels are of a class that the fit has rows of; a fold may lack one."""
        return np.isin(labels, self.names)

    def encode(self, labels: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.names, labels)

    def last_step(self) -> LogisticRegression:
        """Return a logistic regression that takes logits as they are: it makes probabilities and names classes."""
        last = LogisticRegression()
        last.coef_ = np.array([[-1.0, 1.0]]) if self.outputs == 2 else np.eye(self.outputs)
        last.intercept_ = np.zeros(len(last.coef_))
        last.classes_, last.n_features_in_ = self.names, self.outputs
        return last


@dataclass(frozen=True)
class _Number:
    """A target that is a number: the network gives it in standard deviations from its mean."""

    mean: float
    deviation: float
    outputs = 1

    @classmethod
    def of(cls, labels: np.ndarray) -> _Number:
        return cls(float(labels.mean()), float(labels.std()) or 1.0)

    def loss(self) -> str:
        return "mean_squared_error"

    def knows(self, labels: np.ndarray) -> np.ndarray:
        return np.full(len(labels), True)

    def encode(self, labels: np.ndarray) -> np.ndarray:
        return ((labels - self.mean) / self.deviation).astype(np.float32)

    def last_step(self) -> LinearRegression:
        """Return a linear regression that turns deviations into units of the target."""
        last = LinearRegression()
        last.coef_, last.intercept_, last.n_features_in_ = np.array([self.deviation]), self.mean, 1
        return last


def _as_inputs(features: np.ndarray) -> np.ndarray:
    return np.asarray(features, dtype=np.float32)
