"""The JSON Schema for editors agrees with what reading a file says."""

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from jsonschema import Draft202012Validator
from unit.experiments import GOOD, build_experiment
from unit.strategies import spaces

from retune import schema, settings

SCHEMA = json.loads(schema.PATH.read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)


def list_errors(fields: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(fields)]


def test_the_schema_in_docs_is_up_to_date():
    assert schema.PATH.read_text(encoding="utf-8") == schema.build_schema(), "run `make schema`"


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted(settings.experiments_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_that_ship_follow_the_schema(path):
    assert list_errors(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


def test_durations_and_nested_options_follow_the_schema():
    assert list_errors(yaml.safe_load(GOOD)) == []


@given(spaces(deepest=2))
def test_every_space_that_is_read_follows_the_schema(space):
    fields = build_experiment(model={"trainer": "synapseml_lightgbm"}).model_dump(mode="json")
    fields["search"]["space"] = {name: dimension.model_dump(mode="json") for name, dimension in space.items()}
    assert list_errors(fields) == []


@pytest.mark.parametrize(
    ("good", "broken", "message"),
    [
        ("name: flights", "name: Flights", r"\$\.name: 'Flights' does not match"),
        ("name: flights", "nom: flights", "'name' is a required property"),
        ("description:", "descripton:", "'descripton' was unexpected"),
        ("source: file", "source: files", r"\$\.data: "),
        ("problem: regression", "problem: rank", r"'rank' is not one of \['regression', 'binary', 'multiclass'\]"),
        ("validation: 0.15", "validation: 1", r"\$\.split\.validation: 1 is greater than or equal to the maximum of 1"),
        ("max_trials: 12", "max_trials: 0", r"\$\.search\.max_trials: 0 is not valid under any of the given schemas"),
        ("timeout: 30m", "timeout: soon", r"\$\.search\.timeout: 'soon' is not valid"),
        ("metric: rmse", "metric: RMSE", r"\$\.search\.metric: 'RMSE' is not one of"),
        ("type: loguniform", "type: unifrom", r"\$\.search\.space\.learningRate: .* is not valid"),
        ("low: 0.01,", "", r"\$\.search\.space\.learningRate: .* is not valid"),
        ("high: 1}", "high: 1, step: 2}", r"\$\.search\.space\.boosting: .* is not valid"),
        ("retries: 2", "retries: two", r"\$\.airflow\.retries: 'two' is not of type 'integer'"),
    ],
)  # fmt: skip
def test_a_broken_file_breaks_the_schema(good, broken, message):
    assert good in GOOD
    errors = list_errors(yaml.safe_load(GOOD.replace(good, broken, 1)))
    assert any(re.search(message, error) for error in errors), errors
