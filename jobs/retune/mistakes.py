"""What is wrong in an experiment file, told so that it can be mended: file, line, field, value and rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from retune.errors import BadInput
from retune.settings import without_password

_SECRET_FIELD = re.compile(r"(?i)key|secret|password|token|sas|credential|connection_string")
_MUST_BE = "must be "
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


def mistake_of_yaml(error: yaml.YAMLError) -> Mistake:
    """Translate PyYAML's error."""
    mark = getattr(error, "problem_mark", None)
    text = getattr(error, "problem", None) or str(error)
    return Mistake(mark.line + 1 if mark else None, "", None, f"is not valid YAML: {text}")


def find_mistakes(error: ValidationError, root: yaml.MappingNode | None) -> list[Mistake]:
    """Translate pydantic's errors; those of a union's members make one mistake.

    Args:
        error: What it raised.
        root: The file; None where the values come from elsewhere, and have no lines.
    """
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
        known, line = locate(root, location, keep_last=item["type"] == "missing")
        field = ".".join(str(part) for part in known)
        rule = _rule(item["type"], item["msg"], context)
        shown = None if value is None or isinstance(value, Mapping) else without_password(repr(value))
        if shown and item["type"] == "extra_forbidden" and _SECRET_FIELD.search(str(location[-1])):
            shown = "***"  # a credential that went astray, and Airflow would show it to everybody
        found.setdefault(field, []).append(Mistake(line, field, shown, rule))
    # Only a union tells of a value and of what is in it as well; what it tells of the latter is nearer.
    nearest = {field: alike for field, alike in found.items() if not any(f.startswith(f"{field}.") for f in found)}
    return [replace(alike[-1], rule=_any_of([one.rule for one in alike])) for alike in nearest.values()]


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


def locate(
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
