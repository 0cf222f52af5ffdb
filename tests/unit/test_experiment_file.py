"""Reading experiment files: what a good one gives, and what each broken one is told."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from unit.experiments import GOOD, SEARCH, build_experiment, write_experiment
from unit.strategies import spaces

from retune import settings
from retune.data_section import FileData
from retune.errors import BadInput
from retune.experiment import Experiment, TriggerParams
from retune.experiment_file import _Loader, change_engine, parse_params, read_experiment
from retune.mistakes import ExperimentError

LEARNING_RATE = "{type: loguniform, low: 0.01, high: 0.3}"
DROP_RATE = "{type: uniform, low: 0, high: 1}"
SPACE_TYPES = (
    "uniform, loguniform, quniform, qloguniform, normal, lognormal, qnormal, qlognormal, uniformint, randint, choice, "
    "pchoice"
)
CRON_RULE = (
    "must be a cron expression of five fields, one of @once, @continuous, @hourly, @daily, @weekly, @monthly, "
    "@quarterly, @yearly, or null"
)
DURATION_RULE = 'must be a number followed by s, m, h or d, such as "30m"'

# (what of the good file is replaced, by what, how many lines below it the error is told, what it says after the line)
BROKEN = [
    ("name: flights", "name: Flights", 0, "name = 'Flights': must match ^[a-z][a-z0-9_]*$"),
    ("name: flights", "name: flight", 0, "name = 'flight': must equal the file's stem, 'flights'"),
    ("name: flights", "name: 3", 0, "name = 3: must be text"),
    ("name: flights\n", "", 0, "name: is missing"),
    ("description:", "descripton:", 0, "descripton = 'Delay on arrival': is not a known key; see docs/experiment.md"),
    ("source: file", "source: files", 0, "data.source = 'files': must be one of sklearn, file, hdfs, azure_blob, s3"),
    ("  source: file\n", "", -1, "data: needs the key 'source'"),
    ("path: data/flights.csv", "path: 7", 0, "data.path = 7: must be text"),
    ("path: data/flights.csv", 'path: ""', 0, "data.path = '': must have at least 1 character"),
    ("  path: data/flights.csv\n", "", -2, "data: needs path, or tables"),
    ("  target: arr_delay", "  format: xml\n  target: arr_delay", 0, "data.format = 'xml': must be 'csv', 'parq"),
    ("problem: regression", "problem: rank", 0, "problem = 'rank': must be 'regression', 'binary' or 'multiclass'"),
    ("validation: 0.15", "validation: 0.8", -1, "split: validation + test must be less than 1, to leave rows to train"),
    ("validation: 0.15", "validation: 0", 0, "split.validation = 0: must be greater than 0"),
    ("validation: 0.15", 'validation: "0.15"', 0, "split.validation = '0.15': must be a number"),
    ("test: 0.25", "test: .nan", 0, "split.test = nan: must be a finite number"),
    ("test: 0.25", "test: 1.0", 0, "split.test = 1.0: must be less than 1"),
    ("key: [flight]", "key: flight", 0, "split.key = 'flight': must be a list"),
    ("key: [flight]", "key: [flight, arr_delay]", 0, "split.key = 'arr_delay': must not name the target"),
    ("key: [flight]", "key: [a, 1]", 0, "split.key.1 = 1: must be text"),
    ("drop: [comment]", "columns: [a]\n  drop: [b]", -1, "features: columns and drop must not be given together"),
    ("drop: [comment]", "columns: [arr_delay]", 0, "features.columns = 'arr_delay': must not name the target"),
    ("drop: [comment]", "columns: []", 0, "features.columns = []: must have at least 1 item, not 0"),
    ("carrier: string", "carrier: date", 0, "features.cast.carrier = 'date': must be 'double', 'string' or 'boolean'"),
    ("trainer: synapseml_lightgbm", "trainer: forest", 0, "model.trainer = 'forest': must be 'keras', 'lightgbm', "),
    ("objective: quantile", "objective: {a: 1}", 0, "model.fixed.objective: must be true or false or a number or text"),
    ("objective: quantile", "numLeaves: 7", 0, "model.fixed.numLeaves = 7: is searched in search.space too"),
    ("objective: quantile", "dropRate: 7", 0, "model.fixed.dropRate = 7: is searched in search.space too"),
    ("    numLeaves: 31", "    objective: mae", 0, "model.untuned.objective = 'mae': is in model.fixed too"),
    ("engine: hyperopt", "engine: guess", 0, "search.engine = 'guess': must be 'hyperopt'"),
    ("algorithm: tpe", "algorithm: TPE", 0, "search.algorithm = 'TPE': must be 'tpe', 'rand', 'anneal' or 'random'"),
    ("metric: rmse", "metric: RMSE", 0, "search.metric = 'RMSE': must be 'r2', 'rmse', 'mse', 'mae', 'accuracy'"),
    ("metric: rmse", "metric: auc", 0, "search.metric = 'auc': must be one of r2, rmse, mse, mae for problem"),
    ("max_trials: 12", "max_trials: 0", 0, "search.max_trials = 0: must be greater than 0"),
    ("max_trials: 12", "max_trials: 1.5", 0, "search.max_trials = 1.5: must be a whole number"),
    ("max_trials: 12", "max_trials: true", 0, "search.max_trials = True: must be a whole number"),
    ("max_trials: 12", "max_trials: many", 0, "search.max_trials = 'many': must be a whole number"),
    ("max_trials: 12", "max_trials:", 0, "search.max_trials: max_trials is needed with engine hyperopt"),
    ("timeout: 30m", "timeout: 30 minutes", 0, f"search.timeout = '30 minutes': {DURATION_RULE}"),
    ("timeout: 30m", "trial_timeout: 7h", 0, "search.trial_timeout = 25200: is longer than airflow.stage_timeout"),
    ("timeout: 30m", "timeout: 0s", 0, "search.timeout = '0s': must be more than 0s"),
    ("timeout: 30m", "timeout: 1.5", 0, "search.timeout = 1.5: must be a whole number"),
    ("timeout: 30m\n  seed: 42", "seed: 4294967296", 0, "search.seed = 4294967296: must be less than 4294967296"),
    (LEARNING_RATE, "{type: loguniform, low: 0.3, high: 0.01}", 0, "search.space.learningRate: low must be less than"),
    (LEARNING_RATE, "{type: loguniform, low: 0, high: 1}", 0, "search.space.learningRate: low must be greater than 0"),
    (LEARNING_RATE, "{type: loguniform, low: 0.01}", 0, "search.space.learningRate.high: is missing"),
    (LEARNING_RATE, "{type: normal, low: 1}", 0, "search.space.learningRate.low = 1: is not a known key"),
    (LEARNING_RATE, "{type: norml}", 0, f"search.space.learningRate.type = 'norml': must be one of {SPACE_TYPES}"),
    (LEARNING_RATE, "{low: 0.01, high: 0.3}", 0, "search.space.learningRate: needs the key 'type'"),
    (LEARNING_RATE, "0.1", 0, "search.space.learningRate = 0.1: must be a mapping"),
    (LEARNING_RATE, "{type: normal, mean: a, std: 1}", 0, "search.space.learningRate.mean = 'a': must be a number"),
    (LEARNING_RATE, "{type: quniform, low: 1, high: 4, q: 5}", 0, "search.space.learningRate: no multiple of q = 5"),
    (LEARNING_RATE, "{type: quniform, low: 0, high: 1.0e+300, q: 1.0e-300}", 0,
     "search.space.learningRate: q = 1e-300 is too small a step"),
    (LEARNING_RATE, "{type: choice, options: []}", 0, "search.space.learningRate.options = []: must have at least 1"),
    (LEARNING_RATE, "{type: choice, options: [{}]}", 0, "search.space.learningRate.options.0: must have at least 1"),
    (LEARNING_RATE, "{type: choice, options: [{a: {b: 1}}]}", 0,
     "search.space.learningRate.options.0.a: must be a value or a distribution"),
    (LEARNING_RATE, "{type: pchoice, options: [1], probabilities: [0.5]}", 0,
     "search.space.learningRate: probabilities must not be negative and must add up to 1, but are [0.5]"),
    (DROP_RATE, "{type: uniform, low: 1, high: 0}", 0, "search.space.boosting.options.1.dropRate: low must be less"),
    (DROP_RATE, "{type: uniform, low: x, high: 0}", 0, "search.space.boosting.options.1.dropRate.low = 'x': must be a"),
    ("dropRate:", "learningRate:", -8, "search.space = ['boosting', 'learningRate', 'numLeaves']: boosting sets"),
    ("minimum_gain: 0.5", "minimum_gain: -1", 0, "promotion.minimum_gain = -1: must be greater than or equal to 0"),
    ("owner: ops", "owner: 3", 0, "airflow.owner = 3: must be text"),
    ("tags: [nightly]", "tags: nightly", 0, "airflow.tags = 'nightly': must be a list"),
    ("retries: 2", "retries: -1", 0, "airflow.retries = -1: must be greater than or equal to 0"),
    ("max_trials: 12", "max_trials: 12\n  points_to_evaluate: champ", 1,
     "search.points_to_evaluate = 'champ': must be a list or 'champion'"),
    ("max_trials: 12", "max_trials: 12\n  parallel_trials: 0", 1,
     "search.parallel_trials = 0: must be greater than 0 or 'auto'"),
    ("max_trials: 12", "max_trials: 12\n  constraints: [fit_s >= 5, fit_s <= 1]", 1,
     "search.constraints.1 = 'fit_s <= 1': leaves no fit_s that the constraints before it allow"),
    ("retry_delay: 30s", "retry_delay: soon", 0, f"airflow.retry_delay = 'soon': {DURATION_RULE}"),
    ('"@weekly"', '"@sometimes"', 0, f"schedule = '@sometimes': {CRON_RULE}"),
    ('"@weekly"', "61 * * * *", 0, f"schedule = '61 * * * *': {CRON_RULE}"),
    ('"@weekly"', "0 0 * * * *", 0, f"schedule = '0 0 * * * *': {CRON_RULE}"),
    ('"@weekly"', '"@midnight"', 0, f"schedule = '@midnight': {CRON_RULE}"),
    ("problem: regression", "problem: binary\nproblem: binary", 1, "is not valid YAML: the key 'problem' is there"),
    ("learningRate: 0.1", "? [a]\n    : 3", 0, "is not valid YAML: a key must be text"),
    ("learningRate: 0.1", "learningRate: [1", 1, "is not valid YAML: did not find expected ',' or ']'"),
    ("learningRate: 0.1", "learningRate: *other", 0, "is not valid YAML: found undefined alias"),
    ("learningRate: 0.1", "learningRate: !!int many", 0, "is not valid YAML: 'many' is no int"),
    ("learningRate: 0.1", "learningRate: \0", 0, "is not valid YAML: '\\x00': control characters are not allowed"),
    ("learningRate: 0.1", "learningRate: !!python/name:os.system", 0, "is not valid YAML: could not determine a"),
]  # fmt: skip


def test_a_good_file_is_read(tmp_path):
    experiment = read_experiment(write_experiment(tmp_path))
    assert experiment.name == "flights"
    assert experiment.search.timeout == 1800
    assert experiment.airflow.retry_delay == 30
    assert experiment.split.key == ["flight"]
    assert experiment.untuned_parameters == {"objective": "quantile", "learningRate": 0.1, "numLeaves": 31}
    assert (experiment.dag_id, experiment.mlflow_experiment) == ("retune_flights", "retune/flights")


@pytest.mark.parametrize(("good", "broken", "offset", "message"), BROKEN, ids=[row[1][:40] for row in BROKEN])
def test_an_error_names_file_line_field_value_and_rule(tmp_path, good, broken, offset, message):
    assert GOOD.count(good) >= 1
    at = GOOD.index(good) + len(good) - len(good.lstrip())
    path = write_experiment(tmp_path, GOOD.replace(good, broken, 1))
    line = GOOD[:at].count("\n") + 1 + offset
    with pytest.raises(ExperimentError, match=rf"(?m)^{re.escape(f'{path}:{line}: {message}')}"):
        read_experiment(path)


def test_all_problems_of_a_file_are_told_at_once(tmp_path):
    path = write_experiment(tmp_path, GOOD.replace("metric: rmse", "metrics: rmse").replace("retries: 2", "retries: x"))
    with pytest.raises(
        ExperimentError, match=r"(?s)search\.metric: is missing.*search\.metrics = .*airflow\.retries"
    ) as e:
        read_experiment(path)
    assert [mistake.field for mistake in e.value.mistakes] == ["search.metric", "search.metrics", "airflow.retries"]


def test_what_is_wrong_inside_a_list_is_told_once(tmp_path):
    path = write_experiment(tmp_path, GOOD.replace("max_trials: 12", "max_trials: 12\n  points_to_evaluate: [3]"))
    with pytest.raises(ExperimentError) as e:
        read_experiment(path)
    assert [mistake.field for mistake in e.value.mistakes] == ["search.points_to_evaluate.0"]


@pytest.mark.parametrize("text", ["", "- a list", "just text", "# only a comment"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(ExperimentError, match=r"flights\.yaml:1: must be a YAML mapping with the keys name, data"):
        read_experiment(write_experiment(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ExperimentError, match=r"gone\.yaml: cannot be read: No such file or directory"):
        read_experiment(tmp_path / "gone.yaml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "flights.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ExperimentError, match=r"flights\.yaml: cannot be read: 'utf-8' codec"):
        read_experiment(path)


def test_a_bad_file_counts_as_bad_input():
    assert issubclass(ExperimentError, BadInput)


JUNK = [
    "",
    ":",
    "[",
    "{",
    "- ",
    "null",
    "-1",
    "1e400",
    ".nan",
    "*",
    "&a ",
    "!!int ",
    "? ",
    "!!bool ",
    "!!timestamp ",
    "\t",
    "'",
    "{a: 1}",
    "<<: ",
    "0x_",
    "é",
    "\0",
]


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 12), st.sampled_from(JUNK))
def test_whatever_is_wrong_with_a_file_is_told_as_a_problem_of_the_file(tmp_path_factory, at, length, junk):
    text = GOOD[:at] + junk + GOOD[at + length :]
    path = write_experiment(tmp_path_factory.getbasetemp(), text)
    refusal = None
    try:
        assert read_experiment(path).name == "flights"  # it may be fine yet
    except ExperimentError as error:  # any other exception is a crash
        refusal = error
    if refusal:
        told = str(refusal).splitlines()
        assert refusal.mistakes
        assert all(line.startswith(f"{path}:") for line in told), told
        lines = range(1, text.count("\n") + 2)
        assert all(mistake.rule and mistake.line in lines for mistake in refusal.mistakes), told


class Dumper(yaml.SafeDumper):
    """Quotes what the loader would read as a number, such as the text 1e3."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


@given(spaces())
def test_an_experiment_survives_yaml(tmp_path_factory, space):
    fields = build_experiment().model_dump() | {"model": {"trainer": "synapseml_lightgbm"}, "schedule": "0 3 * * 1"}
    fields["data"]["path"] = "hdfs://name/flights"
    experiment = Experiment.model_validate(fields | {"search": fields["search"] | {"space": space}})
    text = yaml.dump(experiment.model_dump(mode="json"), Dumper=Dumper, allow_unicode=True)
    assert read_experiment(write_experiment(tmp_path_factory.getbasetemp(), text)) == experiment


def test_an_experiment_survives_json():
    experiment = build_experiment()
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2E+2", -200.0),
        ("1.5e3", 1500.0),
        (".5e1", 5.0),
        ("10", 10),
        ("2020-01-01", "2020-01-01"),
        ("e3", "e3"),
    ],
)
def test_numbers_and_text_are_told_apart_as_people_do(tmp_path, text, value):
    path = write_experiment(tmp_path, GOOD.replace("numLeaves: 31", f"other: {text}"))
    read = read_experiment(path).model.untuned["other"]
    assert (read, type(read)) == (value, type(value))


def test_an_anchor_can_be_merged(tmp_path):
    text = GOOD.replace("  fixed:\n", "  fixed: &all\n").replace("  untuned:\n", "  untuned:\n    <<: {maxDepth: 3}\n")
    assert read_experiment(write_experiment(tmp_path, text)).model.untuned["maxDepth"] == 3


@pytest.mark.parametrize(
    "uri",
    ["/data/flights.csv", "file:///data/flights.csv", "hdfs://name/flights", "wasb://box@store/flights", "s3a://b/f"],
)
def test_an_absolute_path_stays_as_it_is(tmp_path, uri):
    path = write_experiment(tmp_path, GOOD.replace("data/flights.csv", uri))
    assert read_experiment(path).data.path == uri
    assert read_experiment(path, TriggerParams(data_path=uri)).data.path == uri


@pytest.mark.parametrize("relative", ["data/flights.csv", "../flights", "parts/*.csv", "größe/my flights.csv"])
def test_a_relative_path_starts_at_the_files_folder(tmp_path, monkeypatch, relative):
    folder = tmp_path / "my experiments"
    folder.mkdir()
    write_experiment(folder, GOOD.replace("data/flights.csv", relative))
    monkeypatch.chdir(tmp_path)
    expected = f"file://{folder}/{relative}"
    assert read_experiment("my experiments/flights.yaml").data.path == expected
    assert read_experiment("my experiments/flights.yaml", TriggerParams(data_path=relative)).data.path == expected


@pytest.mark.parametrize("schedule", ["0 3 * * 1", "*/15 8-18 * * MON-FRI", "@once", "@daily", "@quarterly"])
def test_a_schedule_is_a_cron_expression_or_a_preset(schedule):
    assert build_experiment(schedule=schedule).schedule == schedule


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("6h", 21600), ("1d", 86400), (" 2 h ", 7200), (45, 45)]
)
def test_a_duration_has_a_unit_or_is_in_seconds(text, seconds):
    assert TriggerParams(timeout=text).timeout == seconds


def test_a_secret_that_went_astray_is_not_shown(tmp_path):
    for line in ("account_key: canary", "path: https://me:canary@host/a.csv", "path: https://host/a.csv?sig=canary"):
        text = GOOD.replace("source: file", "source: http").replace("path: data/flights.csv", line)
        with pytest.raises(ExperimentError) as told:
            read_experiment(write_experiment(tmp_path, text))
        assert "canary" not in str(told.value)


def test_params_override_the_file(tmp_path):
    path = write_experiment(tmp_path)
    params = parse_params('{"max_trials": 3, "timeout": "1h", "seed": 7, "data_path": "hdfs://name/new"}')
    experiment = read_experiment(path, params)
    assert (experiment.search.max_trials, experiment.search.timeout, experiment.search.seed) == (3, 3600, 7)
    assert experiment.data == FileData(source="file", path="hdfs://name/new", target="arr_delay")
    unchanged = {"name", "description", "problem", "split", "features", "model", "promotion", "airflow", "schedule"}
    assert experiment.model_dump(include=unchanged) == read_experiment(path).model_dump(include=unchanged)


@pytest.mark.parametrize("text", ["{}", '{"max_trials": null, "timeout": null, "seed": null, "data_path": null}'])
def test_params_that_are_null_leave_the_file_as_it_is(tmp_path, text):
    path = write_experiment(tmp_path)
    assert read_experiment(path, parse_params(text)) == read_experiment(path)


def test_a_data_path_has_the_form_that_its_ending_tells(tmp_path):
    path = write_experiment(tmp_path, GOOD.replace("path: data/flights.csv", "path: data/flights.csv\n  format: csv"))
    assert read_experiment(path).data.format == "csv"
    assert read_experiment(path, TriggerParams(data_path="/data/mine.parquet")).data.format is None
    assert read_experiment(path, TriggerParams(data_path="/data/mine")).data.format == "csv"


def test_a_data_path_replaces_a_scikit_learn_data_set(tmp_path):
    data = "data: {source: sklearn, dataset: diabetes, target: target}\n"
    text = re.sub(r"(?s)data:\n.*?(?=problem)", data, GOOD)
    experiment = read_experiment(write_experiment(tmp_path, text), TriggerParams(data_path="/data/mine.parquet"))
    assert experiment.data.model_dump(include={"source", "path", "target"}) == {
        "source": "file", "path": "/data/mine.parquet", "target": "target"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"max_trials": 0}', "^parameter max_trials = 0: must be greater than 0$"),
        ('{"max_trials": "4"}', "^parameter max_trials = '4': must be a whole number$"),
        ('{"timeout": "soon"}', "^parameter timeout = 'soon': must be a number followed by s, m, h or d"),
        ('{"timeout": "9999d"}', "^parameter timeout = '9999d': must be more than 0s and at most 366d"),
        ('{"timeout": "0m"}', "^parameter timeout = '0m': must be more than 0s"),
        ('{"seed": -1}', "^parameter seed = -1: must be greater than or equal to 0$"),
        ('{"data_path": ""}', "^parameter data_path = '': must have at least 1 character$"),
        ('{"trials": 4}', "^parameter trials = 4: is not a known key"),
        ('{"max_trials": 0, "seed": -1}', "max_trials = 0: .*; parameter seed = -1"),
        ("[]", "^parameter .*"),
        ("max_trials=4", "^--params = 'max_trials=4': is not valid JSON: expected"),
    ],
)
def test_params_that_break_a_rule_are_refused(text, message):
    with pytest.raises(BadInput, match=message):
        parse_params(text)


def test_another_engine_takes_over_with_its_default_algorithm():
    search = change_engine(build_experiment(search=SEARCH | {"algorithm": "rand"}), "optuna").search
    assert (search.engine, search.algorithm_name) == ("optuna", "tpe")
    assert search.space == build_experiment().search.space


def test_another_engine_that_lacks_a_distribution_is_refused():
    space = {"numLeaves": {"type": "qnormal", "mean": 10, "std": 2, "q": 1}}
    with pytest.raises(BadInput, match=r"^--engine optuna: search.space.numLeaves = .*: engine optuna has no qnormal"):
        change_engine(build_experiment(search=SEARCH | {"space": space}), "optuna")


@pytest.mark.parametrize("path", sorted(settings.experiments_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_that_ship_are_fine(path: Path):
    experiment: Any = read_experiment(path)
    assert experiment.name == path.stem
    assert experiment.model.untuned
