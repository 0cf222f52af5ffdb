"""Reading an experiment file: YAML with positions, so that every error names file, line, field, value and rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.reader import ReaderError

from retune.errors import BadInput
from retune.experiment import Experiment, TriggerParams
from retune.mistakes import ExperimentError, Mistake, find_mistakes, locate, mistake_of_yaml

_HAS_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:")


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 as PyYAML has it, but `1e-3` is a number, dates stay text, and a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key_node.start_mark)
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key_node.value!r} is there twice", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:  # PyYAML's own, such as for 0x_ and `!!int x`
            mistake = f"{node.value!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(problem=mistake, problem_mark=node.start_mark) from error


_OTHERWISE = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OTHERWISE]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
_Loader.add_implicit_resolver(  # as YAML 1.1, but for base 60, in which 1:30 would be 90
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]+)$"),
    list("-+0123456789"),
)


def find_experiments(folder: Path) -> list[Path]:
    """Return the experiment files of a folder; those that end in `.yml` come first, and are refused when read.

    Raises:
        BadInput: The folder does not exist.
    """
    if not folder.is_dir():
        raise BadInput(
            f"RETUNE_EXPERIMENTS = {folder} is not a folder; set it to the one that holds the experiment files"
        )
    return [*sorted(folder.glob("*.yml")), *sorted(folder.glob("*.yaml"))]


def read_experiment(path: Path | str, params: TriggerParams | None = None) -> Experiment:
    """Read and validate one experiment file.

    Args:
        path: The YAML file; its stem must equal the experiment's name.
        params: What this run changes.

    Raises:
        ExperimentError: The file cannot be read, is no YAML, or breaks a rule.
    """
    path = Path(path)
    if path.suffix != ".yaml":
        raise ExperimentError(path, [Mistake(None, "", None, "an experiment file's name must end in .yaml; rename it")])
    root = _compose(path)
    try:
        experiment = _parse(path, root)
        return _anchor(params, path.parent).apply(experiment) if params else experiment
    except ValidationError as error:
        raise ExperimentError(path, find_mistakes(error, root)) from error


def line_of(path: Path, field: str) -> int:
    """Return the line of a field of an experiment file, from 1; of its section, where it is not there.

    Raises:
        ExperimentError: The file cannot be read or is no YAML.
    """
    return locate(_compose(path), tuple(field.split(".")))[1] or 1


def change_experiment(experiment: Experiment, changes: Mapping[str, object]) -> Experiment:
    """Return an experiment with other values, by the path of the field (`search.max_trials`), validated anew.

    Raises:
        BadInput: The result breaks a rule.
    """
    fields: dict[str, Any] = experiment.model_dump()
    for path, value in changes.items():
        *sections, last = path.split(".")
        reduce(lambda section, name: section[name], sections, fields)[last] = value
    try:
        return Experiment.model_validate(fields)
    except ValidationError as error:
        raise BadInput("; ".join(map(str, find_mistakes(error, None)))) from error


def parse_value(text: str) -> Any:
    """Read a parameter's value as an experiment file would.

    Raises:
        BadInput: It is not valid YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise BadInput(f"{text!r}: {mistake_of_yaml(error).rule}") from error


def parse_params(text: str) -> TriggerParams:
    """Read a run's parameters from JSON.

    Raises:
        BadInput: A parameter is unknown or breaks its rule.
    """
    try:
        return TriggerParams.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise BadInput(f"--params = {text!r}: is not valid JSON: {first['ctx']['error']}") from error
        raise BadInput("; ".join(f"parameter {mistake}" for mistake in find_mistakes(error, None))) from error


def change_engine(experiment: Experiment, engine: str) -> Experiment:
    """Return the experiment with another engine, by that engine's default algorithm.

    Raises:
        BadInput: The engine cannot do what the experiment asks for, say for lack of a distribution.
    """
    fields = experiment.model_dump()
    fields["search"] |= {"engine": engine, "algorithm": None, "algorithm_settings": {}}
    try:
        return Experiment.model_validate(fields)
    except ValidationError as error:
        raise BadInput("; ".join(f"--engine {engine}: {mistake}" for mistake in find_mistakes(error, None))) from error


def _compose(path: Path) -> yaml.MappingNode:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ExperimentError(path, [Mistake(None, "", None, f"cannot be read: {reason}")]) from error
    try:
        root = yaml.compose(text, Loader=_Loader)
    except ReaderError as error:  # of a character; it knows only how many bytes precede it
        line = text.encode()[: error.position].count(b"\n") + 1
        rule = f"is not valid YAML: {chr(error.character)!r}: {error.reason}"
        raise ExperimentError(path, [Mistake(line, "", None, rule)]) from error
    except yaml.YAMLError as error:
        raise ExperimentError(path, [mistake_of_yaml(error)]) from error
    if not isinstance(root, yaml.MappingNode):
        raise ExperimentError(path, [Mistake(1, "", None, "must be a YAML mapping with the keys name, data, model, …")])
    return root


def _parse(path: Path, root: yaml.MappingNode) -> Experiment:
    loader = _Loader("")
    try:
        fields = loader.construct_document(root)
    except yaml.YAMLError as error:
        raise ExperimentError(path, [mistake_of_yaml(error)]) from error
    finally:
        loader.dispose()
    _anchor_data(fields.get("data"), path.parent)
    experiment = Experiment.model_validate(fields)
    if experiment.name != path.stem:
        line = locate(root, ("name",))[1]
        raise ExperimentError(
            path, [Mistake(line, "name", repr(experiment.name), f"must equal the file's stem, {path.stem!r}")]
        )
    return experiment


def _anchor_data(data: Any, folder: Path) -> None:
    if not isinstance(data, dict) or data.get("source") != "file":
        return
    tables = data.get("tables")
    for paths in (data, *([tables] if isinstance(tables, dict) else [])):
        for name in ["path"] if paths is data else list(paths):
            if isinstance(paths.get(name), str) and paths[name]:
                paths[name] = _absolute(paths[name], folder)


def _anchor(params: TriggerParams, folder: Path) -> TriggerParams:
    if params.data_path is None:
        return params
    return params.model_copy(update={"data_path": _absolute(params.data_path, folder)})


def _absolute(uri: str, folder: Path) -> str:
    """Anchor a relative path at `folder`: a job's working folder is not the user's."""
    if _HAS_SCHEME.match(uri) or uri.startswith("/"):
        return uri
    return f"file://{folder.resolve() / uri}"  # not `as_uri`: Hadoop takes %20 for three characters
