"""What every figure is made of: processes timed side by side, and the ratio of their times."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

_TAIL = 40


class BenchError(Exception):
    """A measured process failed: its time means nothing."""


class Skipped(Exception):
    """What a figure needs is not on this machine; the message says what, and the way to it."""


@dataclass(frozen=True)
class Timing:
    """What one process took, its own processes included.

    Attributes:
        wall_s: From start to end.
        cpu_s: User and system time: what other load on the machine moves least.
    """

    wall_s: float
    cpu_s: float


@dataclass
class Figure:
    """One ratio, measured once a round.

    Attributes:
        name: As `--only` spells it.
        title: For a reader.
        what: What is held against what, in a sentence or two.
        goal: The most that the ratio should be, or the least; None where it is there to compare with.
        at_least: The goal is the least.
        ratios: Wall time over wall time, or over what it may be, one a round.
        parts: The times behind the ratios by what took them, one a round.
        unit: Of the parts.
        remark: What else the parts tell, in a sentence.
    """

    name: str
    title: str
    what: str
    goal: float | None
    at_least: bool = False
    ratios: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    unit: Literal["seconds", "ms", "MB"] = "seconds"
    remark: str = ""

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def goal_text(self) -> str:
        return "" if self.goal is None else f"{'≥' if self.at_least else '≤'} {self.goal:g}"

    def add(self, ratio: float, parts: Mapping[str, float]) -> None:
        """Take in one round."""
        self.ratios.append(ratio)
        for part, value in parts.items():
            self.parts.setdefault(part, []).append(value)

    def as_dict(self) -> dict[str, object]:
        """Return the figure as JSON has it: every round, so that others can compute with it."""
        return {
            "name": self.name,
            "title": self.title,
            "what": self.what,
            "goal": self.goal_text,
            "ratio": round(self.ratio, 4),
            "ratios": [round(ratio, 4) for ratio in self.ratios],
            "unit": self.unit,
            "parts": {part: [round(value, 3) for value in values] for part, values in self.parts.items()},
            "remark": self.remark,
        }


def time_process(command: Sequence[str], env: Mapping[str, str]) -> Timing:
    """Run a process to its end and time it.

    Raises:
        BenchError: It did not exit with 0; the message ends with its last lines.
    """
    return _run(command, env)[0]


def ask_process(command: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """Run a process that measures itself, and return what the last line it prints says, in JSON.

    Raises:
        BenchError: It did not exit with 0, or said nothing.
    """
    told = [line for line in _run(command, env)[1] if line.startswith("{")]
    if not told:
        raise BenchError(f"{' '.join(command)}: told nothing")
    return dict(json.loads(told[-1]))


def _run(command: Sequence[str], env: Mapping[str, str]) -> tuple[Timing, list[str]]:
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=dict(env), stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        lines = output.readlines()
    if process.returncode:
        what = f"{Path(command[0]).name} {' '.join(command[1:])}"
        raise BenchError(f"{''.join(lines[-_TAIL:])}\n{what}: exit code {process.returncode}")
    return Timing(wall_s, usage.ru_utime + usage.ru_stime), lines
