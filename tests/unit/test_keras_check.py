"""What an experiment file may ask of the trainer `keras`: known without TensorFlow."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from unit.experiments import SEARCH, build_experiment

from retune.errors import BadInput
from retune.experiment import Experiment
from retune.trainers import keras, load_trainer

TRAINER = load_trainer("keras")


def asking(space: dict | None = None, **fixed: object) -> Experiment:
    dimensions = space or {"learning_rate": {"type": "loguniform", "low": 1e-4, "high": 1e-1}}
    return build_experiment(model={"trainer": "keras", "fixed": fixed}, search=SEARCH | {"space": dimensions})


def test_what_it_can_be_given():
    units = {"type": "choice", "options": [[64, 32], [16], 8, {"type": "quniform", "low": 8, "high": 64, "q": 8}]}
    TRAINER.check(asking({"units": units, "dropout": {"type": "uniform", "low": 0, "high": 0.5}}, layers=3))
    TRAINER.check(asking(units=None, builder=None))
    TRAINER.check(asking(activation="gelu", optimizer="sgd", batch_size=16, epochs=5))


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"unit": 5}, "model.fixed.unit: keras has no such parameter; did you mean units?"),
        ({"units": 0}, "model.fixed.units = 0: must be a whole number greater than 0"),
        ({"units": 2.5}, "model.fixed.units = 2.5: must be a whole number"),
        ({"units": [8, 0]}, "model.fixed.units = [8, 0]: must be a whole number greater than 0, or a list of such"),
        ({"units": [16.0]}, "model.fixed.units = [16.0]: must be a whole number greater than 0"),
        ({"units": [True]}, "model.fixed.units = [True]: must be a whole number greater than 0"),
        ({"units": []}, "model.fixed.units = []: must be a whole number greater than 0"),
        ({"epochs": None}, "model.fixed.epochs = None: must be 1 or more"),
        ({"layers": -1}, "model.fixed.layers = -1: must be 0 or more"),
        ({"dropout": 1.0}, "model.fixed.dropout = 1.0: must be at least 0 and less than 1"),
        ({"epochs": "many"}, "model.fixed.epochs = 'many': must be a whole number"),
        ({"batch_size": 0}, "model.fixed.batch_size = 0: must be 1 or more"),
        ({"activation": "relo"}, "model.fixed.activation = 'relo': must be one of celu, elu"),
        ({"optimizer": "adams"}, "model.fixed.optimizer = 'adams': must be one of adadelta"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(fixed, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        TRAINER.check(asking(**fixed))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"dropout": {"type": "uniform", "low": 0, "high": 1.5}}, "must be at least 0 and less than 1"),
        ({"units": {"type": "uniform", "low": 8, "high": 64}}, "must be a whole number greater than 0"),
        ({"units": {"type": "normal", "mean": 64, "std": 8}}, "must be a whole number greater than 0"),
        ({"epochs": {"type": "uniform", "low": 8, "high": 64}}, "draws fractions"),
        ({"activation": {"type": "uniformint", "low": 1, "high": 4}}, "takes text; use choice"),
    ],
    ids=str,
)
def test_what_a_space_draws_obeys_the_same_rules(space, message):
    with pytest.raises(BadInput, match=f"search.space.{next(iter(space))} = .*{message}"):
        TRAINER.check(asking(space))


def test_what_train_is_given_may_be_infinite_and_is_refused():
    with pytest.raises(BadInput, match=r"train.learning_rate = inf: must be a number greater than 0"):
        TRAINER.check_given([("train", "learning_rate", float("inf"))], "binary")


def test_without_tensorflow_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(keras, "find_spec", lambda name: None)
    way_out = r"model\.trainer = 'keras': TensorFlow is not installed; make setup-keras"
    with pytest.raises(BadInput, match=way_out):
        TRAINER.require_installed()
    with pytest.raises(BadInput, match=way_out):
        TRAINER.check(asking(builder="nets:make"))


def test_the_trainer_is_loaded_without_tensorflow():
    code = (
        "import sys; from retune.trainers import load_trainer; load_trainer('keras');"
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
