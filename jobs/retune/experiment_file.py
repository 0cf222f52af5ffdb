"""Reading an experiment file: YAML with positions, so that every error names file, line, field, value and rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.reader import ReaderError

from retune.errors import BadInput
from retune.experiment import Experiment, TriggerParams
from retune.settings import without_password

_SECRET_FIELD = re.compile(r"(?i)key|secret|password|token|sas|credential|connection_string")
_HAS_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:")


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong in an experiment file.

    Attributes:
        line: Where, from 1; None where the file has no such line.
        field: The path of the field, such as `search.space.alpha.low`; empty for the file as a whole.
        value: What the file says there, as text; None where it says nothing.
        rule: What it should say.
    """

    line: int | None
    field: str
    value: str | None
    rule: str

    def __str__(self) -> str:
        value = "" if self.value is None else f" = {self.value}"
        return f"{self.field}{value}: {self.rule}" if self.field else self.rule


class ExperimentError(BadInput):
    """An experiment file that cannot be used; `mistakes` holds all that was found."""

    def __init__(self, path: Path | str, mistakes: list[Mistake]) -> None:
        self.path = path
        self.mistakes = mistakes
        super().__init__("\n".join(f"{path}{f':{p.line}' if p.line else ''}: {p}" for p in mistakes))


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
        raise ExperimentError(path, _mistakes(error, root)) from error


def line_of(path: Path, field: str) -> int:
    """Return the line of a field of an experiment file, from 1; of its section, where it is not there.

    Raises:
        ExperimentError: The file cannot be read or is no YAML.
    """
    return _locate(_compose(path), tuple(field.split(".")))[1] or 1


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
        raise BadInput("; ".join(map(str, _mistakes(error, None)))) from error


def parse_value(text: str) -> Any:
    """Read a parameter's value as an experiment file would.

    Raises:
        BadInput: It is not valid YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise BadInput(f"{text!r}: {_yaml_mistake(error).rule}") from error


def parse_params(text: str) -> TriggerParams:
    """Read a run's parameters from JSON.

    Raises:
        BadInput: A parameter is unknown or breaks its rule.
    """
    try:
        return TriggerParams.model_validate_json(text)
    except ValidationError as error:
        raise BadInput("; ".join(f"parameter {mistake}" for mistake in _mistakes(error, None))) from error


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
        raise ExperimentError(path, [_yaml_mistake(error)]) from error
    if not isinstance(root, yaml.MappingNode):
        raise ExperimentError(path, [Mistake(1, "", None, "must be a YAML mapping with the keys name, data, model, …")])
    return root


def _parse(path: Path, root: yaml.MappingNode) -> Experiment:
    loader = _Loader("")
    try:
        fields = loader.construct_document(root)
    except yaml.YAMLError as error:
        raise ExperimentError(path, [_yaml_mistake(error)]) from error
    finally:
        loader.dispose()
    _anchor_data(fields.get("data"), path.parent)
    experiment = Experiment.model_validate(fields)
    if experiment.name != path.stem:
        line = _locate(root, ("name",))[1]
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


def _yaml_mistake(error: yaml.YAMLError) -> Mistake:
    mark = getattr(error, "problem_mark", None)
    text = getattr(error, "problem", None) or str(error)
    return Mistake(mark.line + 1 if mark else None, "", None, f"is not valid YAML: {text}")


def _mistakes(error: ValidationError, root: yaml.MappingNode | None) -> list[Mistake]:
    """Translate pydantic's errors; those of a union's members make one mistake."""
    found: dict[str, list[Mistake]] = {}
    for item in error.errors(include_url=False):
        context = item.get("ctx", {})
        location: tuple[Any, ...] = item["loc"]
        value: Any = None if item["type"] == "missing" else item["input"]
        if item["type"] == "cross_field":
            field = re.sub(r"\[(\d+)\]", r".options.\1", str(context["field"]))  # of a choice
            location, value = tuple(field.split(".")), context["value"]
        elif item["type"] == "union_tag_invalid":
            discriminator = str(context["discriminator"]).strip("'")
            location, value = (*location, discriminator), context["tag"]
        known, line = _locate(root, location, keep_last=item["type"] == "missing")
        field = ".".join(str(part) for part in known)
        rule = _rule(item["type"], item["msg"], context)
        shown = None if value is None or isinstance(value, Mapping) else without_password(repr(value))
        if shown and item["type"] == "extra_forbidden" and _SECRET_FIELD.search(str(location[-1])):
            shown = "***"  # a credential that went astray, and Airflow would show it to everybody
        found.setdefault(field, []).append(Mistake(line, field, shown, rule))
    # Only a union tells of a value and of what is in it as well; what it tells of the latter is nearer.
    nearest = {field: alike for field, alike in found.items() if not any(f.startswith(f"{field}.") for f in found)}
    return [replace(alike[-1], rule=_any_of([one.rule for one in alike])) for alike in nearest.values()]


_TYPE_NAMES = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "list_type": "a list",
    "none_required": "null",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
}


_MUST_BE = "must be "


def _any_of(rules: list[str]) -> str:
    if not all(rule.startswith(_MUST_BE) for rule in rules):
        return rules[-1]
    wanted = list(dict.fromkeys(rule.removeprefix(_MUST_BE) for rule in rules))
    if _TYPE_NAMES["float_type"] in wanted and _TYPE_NAMES["int_type"] in wanted:
        wanted.remove(_TYPE_NAMES["int_type"])
    return _MUST_BE + " or ".join(wanted)


def _rule(kind: str, message: str, context: Mapping[str, Any]) -> str:
    if kind in _TYPE_NAMES:
        return _MUST_BE + _TYPE_NAMES[kind]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not a known key; see docs/experiment.md for all of them"
    if kind in ("value_error", "cross_field"):
        return str(context.get("rule") or context["error"])
    if kind == "union_tag_invalid":
        return f"must be one of {context['expected_tags'].replace(chr(39), '')}"
    if kind == "union_tag_not_found":
        return f"needs the key {context['discriminator']}"
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}"
    return re.sub(r"^(Input|String|List|Dictionary) should", "must", message).replace(" after validation", "")


def _locate(
    root: yaml.MappingNode | None, location: tuple[Any, ...], keep_last: bool = False
) -> tuple[list[Any], int | None]:
    """Follow pydantic's location into the YAML, leaving out the parts that only name a union's member."""
    if root is None:
        return list(location), None
    node: Any = root
    line = 1
    known: list[Any] = []
    for part in location:
        child = _child(node, part)
        if child is not None:
            key, node = child
            line = key.start_mark.line + 1
            known.append(part)
    if keep_last and known[-1:] != [location[-1]]:
        known.append(location[-1])
    return known, line


def _child(node: Any, part: Any) -> tuple[Any, Any] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and str(part).isdigit() and int(part) < len(node.value):
        return node.value[int(part)], node.value[int(part)]
    return None
