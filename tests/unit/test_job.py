"""The arguments of the five jobs."""

from pathlib import Path

import pytest

from retune.job import build_parser
from retune.run_tree import STAGES

LATER = STAGES[1:]


def test_ingest_takes_an_experiment_file():
    args = build_parser("ingest").parse_args(["--experiment", "experiments/diabetes.yaml"])
    assert vars(args) == {
        "experiment": "experiments/diabetes.yaml",
        "params": "{}",
        "credentials": None,
        "run_id": None,
        "attempt": 1,
    }


def test_ingest_takes_all_that_airflow_gives_it():
    given = {
        "experiment": "a b.yaml",
        "params": '{"timeout": "30m"}',
        "credentials": Path("a pipe"),
        "run_id": "abc",
        "attempt": 3,
    }
    argv = [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    assert vars(build_parser("ingest").parse_args(argv)) == given


@pytest.mark.parametrize("stage", LATER)
def test_a_later_stage_takes_an_upstream_run(stage):
    args = build_parser(stage).parse_args(["--upstream-run-id", "up", "--run-id", "own", "--attempt", "2"])
    own = {"engine": None} if stage == "tune" else {}
    assert vars(args) == {"upstream_run_id": "up", "run_id": "own", "attempt": 2, **own}


def test_tune_takes_another_engine_of_those_there_are():
    parser = build_parser("tune")
    assert parser.parse_args(["--upstream-run-id", "up", "--engine", "optuna"]).engine == "optuna"
    with pytest.raises(SystemExit):
        parser.parse_args(["--upstream-run-id", "up", "--engine", "optune"])


@pytest.mark.parametrize(
    ("stage", "argv", "message"),
    [
        ("ingest", [], "ingest.py: error: the following arguments are required: --experiment"),
        ("ingest", ["--experiment", "x", "--upstream-run-id", "y"], "unrecognized arguments: --upstream-run-id"),
        ("ingest", ["--experiment", "x", "--attempt", "two"], "argument --attempt: invalid int value: 'two'"),
        *[
            (stage, [], f"{stage}.py: error: the following arguments are required: --upstream-run-id")
            for stage in LATER
        ],
        *[(stage, ["--upstream-run-id", "x", "--experiment", "y"], "unrecognized arguments") for stage in LATER],
    ],
)
def test_wrong_arguments_are_refused(stage, argv, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        build_parser(stage).parse_args(argv)
    assert message in capsys.readouterr().err
