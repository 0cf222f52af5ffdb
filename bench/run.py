"""`make bench`: every figure a ratio, where it can be of times measured side by side, in this run, on this machine.

Such a ratio says what seconds cannot: it means the same on another machine, and other load hits both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import dag_parsing
import suggestion
import whole_dag
from measure import BenchError, Figure
from place import ROOT, temporary_place

FIGURES: dict[str, ModuleType] = {module.NAME: module for module in (dag_parsing, whole_dag, suggestion)}
"""One module a figure: its NAME, its ROUNDS, and `measure(place, rounds) -> Figure`."""

_PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-apache-spark",
    "pyspark",
    "mlflow",
    "synapseml",
    "hyperopt",
    "optuna",
)
_RESULTS = ROOT / "docs"


def main() -> int:
    arguments = _parse_arguments()
    machine = _describe_machine()
    figures: list[Figure] = []
    try:
        with temporary_place() as place:
            for name in arguments.only or FIGURES:
                print(f"measuring {name} …", file=sys.stderr, flush=True)
                figures.append(FIGURES[name].measure(place, arguments.rounds or FIGURES[name].ROUNDS))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join([*_summary(figures), *_details(figures)]))
    if arguments.only is None:
        _write(figures, machine)
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure retune; see docs/benchmarks.md.")
    parser.add_argument("--only", nargs="+", choices=FIGURES, help="these figures alone, shown but not written down")
    parser.add_argument("--rounds", type=int, help="rounds of each figure; by default as many as it asks for")
    return parser.parse_args()


def _describe_machine() -> dict[str, Any]:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gb": round(memory_gb),
        "load_before": round(os.getloadavg()[0], 1),
        "versions": {
            "python": platform.python_version(),
            "java": _java_version(),
            **{package: version(package) for package in _PACKAGES},
        },
    }


def _java_version() -> str:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    return told.split('"')[1]


def _summary(figures: list[Figure]) -> list[str]:
    lines = ["| figure | ratio | spread | goal | rounds |", "|---|---|---|---|---|"]
    for f in figures:
        spread = f"{min(f.ratios):.2f} to {max(f.ratios):.2f}"
        lines.append(f"| {f.title} | **{f.ratio:.2f}** | {spread} | ≤ {f.goal:g} | {len(f.ratios)} |")
    return lines


def _details(figures: list[Figure]) -> list[str]:
    lines: list[str] = []
    for figure in figures:
        lines += [
            "",
            f"## {figure.title}",
            "",
            figure.what,
            "",
            f"| {figure.unit} | median | spread |",
            "|---|---|---|",
        ]
        for part, values in figure.parts.items():
            lines.append(f"| {part} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} |")
        if figure.remark:
            lines += ["", figure.remark]
    return lines


def _write(figures: list[Figure], machine: dict[str, Any]) -> None:
    result = {"machine": machine, "figures": [figure.as_dict() for figure in figures]}
    (_RESULTS / "benchmarks.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (_RESULTS / "benchmarks.md").write_text("\n".join(_page(figures, machine)), encoding="utf-8")
    print("written to docs/benchmarks.md and docs/benchmarks.json")


def _page(figures: list[Figure], machine: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit. Unless it says otherwise, a figure is a ratio of wall times measured by",
        "turns in one run: the median over rounds of each round's ratio, with the least and the greatest. Seconds are",
        "this machine's, and its load's; compare the ratios. `benchmarks.json` beside this page has every round.",
        "",
        *_summary(figures),
        "",
        f"Measured on {machine['date']}: {machine['system']}, {machine['cores']} cores, {machine['memory_gb']} GiB, "
        f"load average before the start {machine['load_before']:g}; {versions}.",
    ]
    return [*lines, *_details(figures), ""]


if __name__ == "__main__":
    sys.exit(main())
