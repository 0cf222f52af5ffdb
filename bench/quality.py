"""`make bench-quality`: the test R² that retune, Optuna and FLAML come to in equal time, data set by data set."""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from machine import describe, look_at_machine
from measure import BenchError, Skipped
from peers import ask_peer
from place import ROOT, Place, temporary_place
from pyspark.sql import SparkSession
from rows import TARGET, require_california, write_synthetic
from stages import prepare_search
from warm import open_tuning, warm_session

from retune.handoff import FEATURE_LIST
from retune.trial_runs import TrialRuns

_SYNTHETIC_ROWS = 20_000
_DATA = {
    "California Housing": "{source: sklearn, dataset: california_housing, target: MedHouseVal}",
    "diabetes": "{source: sklearn, dataset: diabetes, target: target}",
    "synthetic": "{source: file, path: {path}, target: {target}}",
}
_EXPERIMENT = """
name: quality
data: {data}
problem: regression
split: {{validation: 0.15, test: 0.25, seed: {seed}}}
model: {{trainer: lightgbm}}
search: {{metric: rmse, max_trials: 100000, timeout: {seconds}s, seed: {seed}, space: {space}}}
"""
_SPACE = {
    "learning_rate": {"type": "loguniform", "low": 0.005, "high": 0.5},
    "num_leaves": {"type": "qloguniform", "low": 4, "high": 128, "q": 1},
    "n_estimators": {"type": "qloguniform", "low": 20, "high": 2000, "q": 1},
    "min_child_samples": {"type": "qloguniform", "low": 1, "high": 100, "q": 1},
    "colsample_bytree": {"type": "uniform", "low": 0.4, "high": 1},
    "reg_lambda": {"type": "loguniform", "low": 1e-3, "high": 100},
}
_WARM_UP = 8
_OURS: dict[str, dict[str, str]] = {"retune": {}, "retune, engine: optuna": {"engine": "optuna"}}
"""Contender → what its section `search` says beside."""
_PEERS = ("optuna", "flaml")
_METHOD = (
    "Each searches by itself on this machine, for as long as the others, for the lowest validation RMSE of native "
    "LightGBM on the rows that featurize wrote: retune (Hyperopt's tpe as it is by default, and Optuna's; a trial a "
    "core in Spark tasks, each kept in MLflow), Optuna (tpe, the same space, a trial a core in threads) and FLAML (its "
    "own space). Neither imports nor Spark's start count. What each found is then fitted to train and validation rows "
    "by native LightGBM and scored on the test rows. A seed draws the splits, the same for all, and seeds the search."
)


def main() -> int:
    arguments = _parse_arguments()
    machine = look_at_machine()
    found: list[dict[str, Any]] = []
    try:
        with temporary_place() as place, warm_session(place) as spark:
            for name in arguments.only or _DATA:
                found += _search_all(place, spark, name, arguments)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    lines = _table(found)
    print("\n".join(lines))
    if arguments.only is None and arguments.write:
        _write(lines, found, machine, arguments)
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/quality.py", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each search; 60 by default")
    parser.add_argument("--seeds", type=int, default=5, help="how many; 5 by default")
    parser.add_argument("--only", nargs="+", choices=_DATA, help="these data sets alone, shown but not written down")
    parser.add_argument("--no-write", dest="write", action="store_false", help="show the results alone")
    return parser.parse_args()


def _search_all(
    place: Place, spark: SparkSession, name: str, arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    for seed in range(arguments.seeds):
        try:
            featurized = _prepare(place, name, seed, arguments.seconds)
        except Skipped as reason:
            print(f"skipped: {name}. {reason}.", file=sys.stderr)
            return
        orders: dict[str, dict[str, Any]] = {}
        for contender, section in _OURS.items():
            order, found = _search_retune(place, spark, featurized, seed, section)
            orders[contender] = {**order, "found": found}
        orders |= {peer: {**order, "seconds": arguments.seconds} for peer in _PEERS}
        for contender, each in orders.items():
            path = place.home / "quality.json"
            path.write_text(json.dumps(each), encoding="utf-8")
            told = {"data": name, "seed": seed, "contender": contender}
            told |= ask_peer(place, "quality_peers.py", contender, str(path))
            print(told, file=sys.stderr, flush=True)
            yield told


def _prepare(place: Place, name: str, seed: int, seconds: float) -> str:
    """Ingest and featurize; return the featurize run."""
    data = _DATA[name]
    if "california" in data:
        require_california()
    if "{path}" in data:
        data = data.replace("{path}", str(write_synthetic(place, _SYNTHETIC_ROWS))).replace("{target}", TARGET)
    path = place.home / "quality.yaml"
    text = _EXPERIMENT.format(data=data, seed=seed, seconds=f"{seconds:g}", space=json.dumps(_SPACE))
    path.write_text(text, encoding="utf-8")
    return prepare_search(place, path)


def _search_retune(
    place: Place, spark: SparkSession, featurized: str, seed: int, section: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Search; return what the peers are to search on, and what this search found."""
    with open_tuning(place, spark, featurized) as held:
        held.search(_WARM_UP, **section)
        result, search_s = held.search(held.stage.experiment.search.trials, TrialRuns(held.stage), **section)
        order = {
            "rows": {split: held.stage.output("featurize", split) for split in ("train", "validation", "test")},
            "features": [each["name"] for each in held.stage.artifact("featurize", FEATURE_LIST)["features"]],
            "threads": os.cpu_count(),
            "space": _SPACE,
            "seed": seed,
        }
    return order, {"setting": result.best.setting, "trials": len(result.trials), "search_s": search_s}


def _table(found: list[dict[str, Any]]) -> list[str]:
    lines = ["| data | by | mean test R² | standard deviation | least to greatest | trials |", f"|{'---|' * 6}"]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in found:
        groups.setdefault((each["data"], each["contender"]), []).append(each)
    for (data, contender), each in groups.items():
        scores, trials = [one["test_r2"] for one in each], statistics.median(one["trials"] for one in each)
        spread = f"{statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
        lines.append(
            f"| {data} | {contender} | **{statistics.fmean(scores):.4f}** | {spread} "
            f"| {min(scores):.4f} to {max(scores):.4f} | {trials:g} |"
        )
    return lines


def _write(
    lines: list[str], found: list[dict[str, Any]], machine: dict[str, Any], arguments: argparse.Namespace
) -> None:
    result = {"machine": machine, "seconds": arguments.seconds, "seeds": arguments.seeds, "searches": found}
    path = ROOT / "docs" / "benchmarks_quality"
    path.with_suffix(".json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    title = f"# Test R² after {arguments.seconds:g} s of search, {arguments.seeds} seeds"
    origin = "Written by `make bench-quality`; do not edit."
    page = [title, "", origin, "", _METHOD, "", *lines, "", describe(machine), ""]
    path.with_suffix(".md").write_text("\n".join(page), encoding="utf-8")
    print("written to docs/benchmarks_quality.md and docs/benchmarks_quality.json")


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    sys.exit(main())
