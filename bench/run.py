"""`make bench`: every figure a ratio, where it can be of times measured side by side, in this run, on this machine.

Such a ratio says what seconds cannot: it means the same on another machine, and other load hits both sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from datetime import datetime
from typing import Any, Protocol

import cross_validator
import dag_parsing
import driver_memory
import first_job
import gbt
import grid_cv
import guide
import keras_side_by_side
import native
import puzzle
import scaling
import side_by_side
import suggestion
import tracked
import whole_dag
from machine import describe, look_at_machine
from measure import BenchError, Figure, Skipped
from place import ROOT, Place, temporary_place

import talkingdata


class Measurement(Protocol):
    """One or more figures: mostly a module.

    Attributes:
        NAME: As `--only` spells it.
        ROUNDS: By default.
    """

    NAME: str
    ROUNDS: int

    def measure(self, place: Place, rounds: int) -> Figure | list[Figure]:
        """Measure so many rounds.

        Raises:
            Skipped: What it needs is not there.
        """
        ...


_SHORT: tuple[Measurement, ...] = (
    dag_parsing,
    whole_dag,
    first_job,
    suggestion,
    guide,
    tracked,
    native.AT_20K,
    native.AT_200K,
    side_by_side,
    keras_side_by_side,
    gbt,
    cross_validator,
    scaling,
    driver_memory,
)
_LONG: tuple[Measurement, ...] = (native.AT_1M, puzzle, grid_cv, talkingdata)
FIGURES: dict[str, Measurement] = {each.NAME: each for each in (*_SHORT, *_LONG)}

_RESULTS = ROOT / "docs" / "benchmarks.json"


def main() -> int:
    arguments = _parse_arguments()
    machine = look_at_machine()
    names = arguments.only or [each.NAME for each in (_LONG if arguments.long else _SHORT)]
    figures: list[Figure] = []
    try:
        skipped = _measure(names, arguments.rounds, figures)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    finally:  # a figure that fails does not take those before it along
        told = [figure.as_dict() for figure in figures]
        if arguments.write:
            _write(told, machine)
    print("\n".join([*_summary(told), *skipped, *_details(told)]))
    return 0


def _measure(names: list[str], rounds: int | None, figures: list[Figure]) -> list[str]:
    """Add to the figures, one after the other; return a line for each that is skipped."""
    skipped: list[str] = []
    with temporary_place() as place:
        for name in names:
            print(f"{datetime.now():%H:%M:%S} measuring {name} …", file=sys.stderr, flush=True)
            try:
                measured = FIGURES[name].measure(place, rounds or FIGURES[name].ROUNDS)
            except Skipped as reason:
                skipped += ["", f"Skipped: {name}. {reason}."]
            else:
                new = measured if isinstance(measured, list) else [measured]
                print("\n".join(_summary([each.as_dict() for each in new])[2:]), file=sys.stderr, flush=True)
                figures += new
    return skipped


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure retune; see docs/benchmarks.md.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only", nargs="+", choices=FIGURES, help="these figures alone")
    which.add_argument("--long", action="store_true", help=f"those that take long: {', '.join(m.NAME for m in _LONG)}")
    parser.add_argument("--rounds", type=int, help="rounds of each figure; by default as many as it asks for")
    parser.add_argument("--no-write", dest="write", action="store_false", help="show the results alone")
    return parser.parse_args()


def _summary(figures: list[dict[str, Any]]) -> list[str]:
    return ["| figure | ratio | spread | goal | met | rounds |", "|---|---|---|---|---|---|", *map(_row, figures)]


def _row(figure: dict[str, Any]) -> str:
    ratio, ratios = figure["ratio"], figure["ratios"]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    relation, _, goal = figure["goal"].partition(" ")
    met = "" if not goal else "yes" if (ratio >= float(goal) if relation == "≥" else ratio <= float(goal)) else "no"
    return f"| {figure['title']} | **{ratio:.2f}** | {spread} | {figure['goal']} | {met} | {len(ratios)} |"


def _details(figures: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for figure in figures:
        head = [f"| {figure['unit']} | median | spread |", "|---|---|---|"]
        lines += ["", f"## {figure['title']}", "", figure["what"], "", *head]
        for part, values in figure["parts"].items():
            lines.append(f"| {part} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} |")
        if figure["remark"]:
            lines += ["", figure["remark"]]
    return lines


def _write(figures: list[dict[str, Any]], machine: dict[str, Any]) -> None:
    """Put the figures of this run in the place of their last ones; those that were not measured stay as they were."""
    new = {str(figure["name"]) for figure in figures}
    runs = json.loads(_RESULTS.read_text(encoding="utf-8"))["runs"] if _RESULTS.exists() else []
    for run in runs:
        run["figures"] = [figure for figure in run["figures"] if figure["name"] not in new]
    runs = [run for run in (*runs, {"machine": machine, "figures": figures}) if run["figures"]]
    _RESULTS.write_text(json.dumps({"runs": runs}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _RESULTS.with_suffix(".md").write_text("\n".join(_page(runs)), encoding="utf-8")
    print("written to docs/benchmarks.md and docs/benchmarks.json")


def _page(runs: list[dict[str, Any]]) -> list[str]:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench` and `make bench-long`; do not edit. Unless it says otherwise, a figure is a ratio of",
        "wall times measured by turns in one run: the median over rounds of each round's ratio, with the least and the",
        "greatest. Seconds are this machine's, and its load's; compare the ratios. `benchmarks.json` beside this page",
        "has every round.",
    ]
    head, rule = _summary([])
    lines += ["", f"{head} measured |", f"{rule}---|"]
    lines += [f"{_row(figure)} {number} |" for number, run in enumerate(runs, 1) for figure in run["figures"]]
    lines += ["", *(f"{number}. {describe(run['machine'])}" for number, run in enumerate(runs, 1))]
    return [*lines, *_details([figure for run in runs for figure in run["figures"]]), ""]


if __name__ == "__main__":
    sys.exit(main())
