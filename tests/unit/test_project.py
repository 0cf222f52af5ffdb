"""The MLflow project: what it is asked, its rows, and its entry points."""

from __future__ import annotations

import shlex
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.projects.utils import load_project

from retune.errors import BadInput
from retune.job import build_parser as job_parser
from retune.project.asked import read_asked
from retune.project.rows import read_rows
from retune.project.search import _spell
from retune.project.train import parse_parameters
from retune.run_tree import STAGES

ROOT = Path(__file__).parents[2]
WINE = ROOT / "experiments" / "wine_keras.yaml"
NOTHING = {"experiment": str(WINE), "data": "", "target": "", "problem": ""}


def asked(changes=None, **arguments):
    return read_asked(Namespace(**NOTHING | arguments), changes)


def test_what_is_left_empty_is_as_the_file_has_it():
    experiment = asked({"search.max_trials": None, "search.metric": ""})
    assert (experiment.data.dataset, experiment.search.max_trials) == ("wine", 10)


def test_data_metric_and_budget_can_be_others():
    changes = {"search.metric": "rmse", "search.max_trials": 3, "model.fixed.epochs": 7}
    experiment = asked(changes, data="houses.csv", target="price", problem="regression")
    assert (experiment.data.path, experiment.data.target) == ("houses.csv", "price")
    assert (experiment.search.metric, experiment.search.max_trials) == ("rmse", 3)
    assert experiment.model.fixed == {"epochs": 7}
    assert asked(data="breast_cancer", problem="binary").data.dataset == "breast_cancer"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search.metric": "rmse"}, "search.metric = 'rmse': must be one of accuracy, f1"),
        ({"search.max_trials": 0}, "search.max_trials = 0: must be greater than 0"),
        ({"search.algorithm": "tpo"}, "search.algorithm = 'tpo'"),
        ({"search.validation": {"type": "cross_validation"}}, "search.validation = 'cross_validation': is for the pip"),
        ({"model.trainer": "sklearn"}, "model.trainer = 'sklearn': is for the pipeline.*use keras"),
        ({"search.trial_timeout": 60}, "search.trial_timeout = 60: is for the pipeline"),
        ({"search.warm_start": {"runs": 2}}, "search.warm_start"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused(changes, message):
    with pytest.raises(BadInput, match=message):
        asked(changes)


def test_rows_of_a_csv_become_numbers_and_categories(tmp_path):
    drawn = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": drawn.random(60).round(3),
            "color": drawn.choice(["red", "blue", "?"], 60),
            "flag": drawn.random(60) < 0.5,
            "id": [f"n{i}" for i in range(60)],
            "grade": drawn.choice(["good", "bad"], 60),
        }
    )
    frame.loc[5, "size"] = None
    frame.loc[7, "grade"] = None
    frame.to_csv(tmp_path / "goods.csv", index=False)
    changes = {"features": {"max_categories": 20}}
    rows = read_rows(asked(changes, data=str(tmp_path / "goods.csv"), target="grade", problem="binary"))
    assert rows.classes == ["bad", "good"]
    assert (len(rows.train.labels), len(rows.validation.labels)) == (47, 12)
    assert rows.train.categories == (1,)
    assert rows.train.features.shape[1] == 3  # not `id`, of too many values
    assert set(np.unique(rows.train.features[:, 1])) == {0, 1, 2}  # blue, red, missing
    raw = rows.example.assign(color="never seen", size="no number")
    assert (rows.features.transform(raw)[:, 1] == 2).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "no_such.csv", "target": "x"}, "data: cannot be read: .*no_such.csv"),
        ({"data": "rows.txt", "target": "x"}, "data = rows.txt: its ending tells no form; name it .csv"),
        ({"target": "grower"}, "data.target = 'grower': the data have no such column; they have alcohol"),
        ({"problem": "binary"}, "data.target = 'target': has 3 classes, which is not binary"),
    ],
    ids=str,
)
def test_data_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        read_rows(asked(**arguments))


def test_parameters_are_read_as_in_an_experiment_file():
    told = ["--units", "[64, 32]", "--learning_rate", "1e-3", "--builder", "own.nets:make", "--layers", ""]
    assert parse_parameters(told) == {"units": [64, 32], "learning_rate": 0.001, "builder": "own.nets:make"}
    with pytest.raises(BadInput, match="must be --<parameter> <value>"):
        parse_parameters(["--units"])


@pytest.mark.parametrize(
    ("value", "text"),
    [("relu", "relu"), (1e-05, "1e-05"), (True, "true"), ([64, 32], "[64, 32]"), ("7", '"7"'), ("no: a", '"no: a"')],
    ids=str,
)
def test_a_value_comes_to_the_child_as_it_is(value, text):
    assert _spell(value) == text
    assert parse_parameters(["--activation", text]) == {"activation": value}


def test_every_entry_point_calls_what_takes_its_arguments():
    project = load_project(str(ROOT))
    for name in (*STAGES, "pipeline", "main", "train"):
        entry = project.get_entry_point(name)
        given = {parameter: "x" for parameter, told in entry.parameters.items() if told.default is None}
        command = shlex.split(entry.compute_command(given, None))
        script = next(Path(part) for part in command if part.startswith("jobs/"))
        assert (ROOT / script).exists()
        if name in STAGES:
            job_parser(name).parse_args(command[command.index(str(script)) + 1 :])
            assert command[:4] == ["env", "-u", "MLFLOW_RUN_ID", "spark-submit"]
    assert (ROOT / "python_env.yaml").exists()
