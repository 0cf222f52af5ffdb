"""Networks of Keras: what the suite of all trainers does not ask."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
from unit.experiments import SEARCH, build_experiment
from unit.test_task_trainers import plant

from retune.errors import BadInput
from retune.trainers import keras as adapter
from retune.trainers import load_trainer

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")
TRAINER = load_trainer("keras")
QUICK = {"layers": 1, "units": 8, "epochs": 6, "learning_rate": 0.02}


@pytest.fixture(autouse=True, scope="module")
def loaded():
    """TensorFlow takes its threads with the first operation, so a process loads it before, as a Spark worker does."""
    TRAINER.load_library(1)


def fit(problem="binary", watched=True, **more):
    train, validation = plant(problem).split(0)
    report = more.pop("report", None)
    patience = more.pop("patience", None)
    return TRAINER.fit(train, QUICK | more, problem, 7, 1, validation if watched else None, patience, report)


def network_of(model):
    return model["network"].func.__self__


def test_names_are_keras_own():
    assert all(callable(keras.activations.get(name)) for name in adapter.ACTIVATIONS)
    for name in adapter.OPTIMIZERS:
        made = keras.optimizers.get({"class_name": name, "config": {"learning_rate": 0.1}})
        assert type(made).__name__.lower() == name


@pytest.mark.parametrize(
    ("parameters", "widths"),
    [
        ({"layers": 0}, [2]),
        ({"layers": 3, "units": 5}, [5, 5, 5, 2]),
        ({"units": [7, 4]}, [7, 4, 2]),
        ({"layers": 1, "units": None}, [64, 2]),
    ],
    ids=str,
)
def test_layers_and_units_make_the_network(parameters, widths):
    layers = network_of(fit(**parameters, epochs=1, dropout=0.1)).layers
    assert [layer.units for layer in layers if isinstance(layer, keras.layers.Dense)] == widths
    assert sum(isinstance(layer, keras.layers.Dropout) for layer in layers) == len(widths) - 1


def test_optimizer_and_learning_rate_are_used():
    optimizer = network_of(fit(optimizer="sgd", learning_rate=0.25)).optimizer
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert float(optimizer.learning_rate) == 0.25


def test_each_epoch_is_reported_with_both_losses():
    told = []
    fit(report=lambda epoch, losses: told.append((epoch, dict(losses))))
    assert [epoch for epoch, _ in told] == [1, 2, 3, 4, 5, 6]
    assert all(losses.keys() == {"train_loss", "validation_loss"} for _, losses in told)
    assert told[-1][1]["validation_loss"] < told[0][1]["validation_loss"]


def test_early_stopping_gives_the_weights_of_the_best_epoch():
    told = {}
    model = fit(epochs=300, learning_rate=0.1, patience=4, report=lambda epoch, losses: told.update({epoch: losses}))
    best = min(told, key=lambda epoch: told[epoch]["validation_loss"])
    assert TRAINER.rounds(model) == best == len(told) - 4
    _, validation = plant("binary").split(0)
    probability = model.predict_proba(validation.features)[np.arange(100), validation.labels.astype(int)]
    assert -np.log(probability).mean() == pytest.approx(told[best]["validation_loss"], rel=1e-4)


@pytest.mark.parametrize("problem", ["regression", "multiclass"])
def test_a_loss_that_diverges_is_an_error(problem):
    with pytest.raises(ArithmeticError, match=r"_loss is (nan|inf) after \d+ epochs; lower the learning_rate"):
        fit(problem, learning_rate=1e30, optimizer="sgd", epochs=5)


def test_a_model_is_loaded_without_retune(tmp_path):
    model, features = fit(), plant("binary").features
    (tmp_path / "model").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "features.npy", features)
    code = (
        "import pickle, sys, numpy as np; m = pickle.load(open('model', 'rb'));"
        "np.save('told.npy', m.predict_proba(np.load('features.npy'))); assert 'retune' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "told.npy"), model.predict_proba(features), rtol=1e-5)


def make_wide(inputs, outputs, width=12, squash="tanh"):
    layers = [keras.Input((inputs,)), keras.layers.Dense(width, squash), keras.layers.Dense(outputs)]
    return keras.Sequential(layers)


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setenv("RETUNE_ALLOWED_MODULES", "own_networks")
    monkeypatch.setitem(sys.modules, "own_networks", types.SimpleNamespace(make_wide=make_wide))


def asking(**fixed):
    space = {"width": {"type": "uniformint", "low": 2, "high": 9}}
    return build_experiment(
        model={"trainer": "keras", "fixed": {"builder": "own_networks:make_wide", **fixed}},
        search=SEARCH | {"space": space},
    )


def test_a_network_of_ones_own_has_parameters_of_its_own(own):
    TRAINER.check(asking(squash="relu", epochs=3))
    with pytest.raises(BadInput, match=r"model\.fixed\.layers: keras has no such parameter"):
        TRAINER.check(asking(layers=3))
    train, _ = plant("multiclass").split(0)
    parameters = {"builder": "own_networks:make_wide", "width": 5, "epochs": 2}
    network = network_of(TRAINER.fit(train, parameters, "multiclass", 7, 1))
    assert [(layer.units, layer.activation.__name__) for layer in network.layers] == [(5, "tanh"), (3, "linear")]


def test_a_builder_must_be_allowed(own, monkeypatch):
    monkeypatch.setenv("RETUNE_ALLOWED_MODULES", "")
    with pytest.raises(BadInput, match=r"model\.fixed\.builder = .*does not allow module own_networks"):
        TRAINER.check(asking())


def test_it_keeps_to_its_threads(caplog):
    import tensorflow as tf

    from retune.trainers._keras_network import hold_to

    fit(epochs=1)
    assert tf.config.threading.get_intra_op_parallelism_threads() == 1
    assert tf.config.threading.get_inter_op_parallelism_threads() == 1
    hold_to(1)
    assert not caplog.records
    hold_to(3)
    assert "TensorFlow keeps the threads it began with" in caplog.text
