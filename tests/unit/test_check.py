"""`make check`: the exit code and what it prints."""

import pytest
from unit.experiments import GOOD, write_experiment

from retune import check
from retune.errors import BadInput


@pytest.fixture(autouse=True)
def _own_experiments(monkeypatch, tmp_path):
    monkeypatch.setenv("RETUNE_EXPERIMENTS", str(tmp_path))


def test_files_that_are_fine_give_0(tmp_path, capsys):
    paths = [write_experiment(tmp_path, GOOD.replace("name: flights", f"name: {name}"), name) for name in ("a", "b")]
    assert check.main() == 0
    assert capsys.readouterr().out.splitlines() == [f"{path}: fine" for path in paths]


@pytest.mark.parametrize(
    ("good", "broken", "message"),
    [
        ("max_trials: 12", "max_trials: 0", ":28: search.max_trials = 0: must be greater than 0"),
        (
            "objective: quantile",
            "objectiv: quantile",
            ":20: model.fixed.objectiv: synapseml_lightgbm has no such parameter",
        ),
        ("tags: [nightly]", "tags: [nightly", ":45: is not valid YAML"),
    ],
)
def test_a_broken_file_gives_the_code_of_bad_input_and_the_others_are_checked(tmp_path, capsys, good, broken, message):
    path = write_experiment(tmp_path, GOOD.replace(good, broken))
    other = write_experiment(tmp_path, GOOD.replace("name: flights", "name: other"), "other")
    assert check.main() == BadInput.exit_code != 0
    out, err = capsys.readouterr()
    assert out == f"{other}: fine\n"
    assert err.startswith(f"{path}{message}")


def test_a_folder_without_experiments_is_bad_input(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("nothing here")
    assert check.main() == BadInput.exit_code
    assert capsys.readouterr().err == f"{tmp_path} has no experiment file (*.yaml)\n"
