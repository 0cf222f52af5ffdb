"""`make bench-quality`: the test R² that retune, Optuna and FLAML come to in equal time, data set by data set."""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from machine import describe, look_at_machine
from measure import BenchError, Skipped
from peers import ask_peer
from place import ROOT, Place, temporary_place
from pyspark.sql import SparkSession
from rows import TARGET, make_synthetic, require_california
from sklearn import datasets
from warm import NoTracker, as_spark_rows, warm_session

from retune.data.splits import SPLIT
from retune.evaluation import score_splits
from retune.metrics import METRICS
from retune.placements.rows import laid_out
from retune.search.engine import build_engine
from retune.search.loop import run_search
from retune.search.plan import Plan
from retune.search.stopping import Budget
from retune.search.trial import Attempt
from retune.search_section import Search
from retune.space import Setting
from retune.trainers import load_trainer

_SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}
_SPACE = {
    "learningRate": {"type": "loguniform", "low": 0.005, "high": 0.5},
    "numLeaves": {"type": "uniformint", "low": 4, "high": 128},
    "numIterations": {"type": "uniformint", "low": 20, "high": 500},
    "minDataInLeaf": {"type": "uniformint", "low": 1, "high": 100},
    "featureFraction": {"type": "uniform", "low": 0.4, "high": 1},
    "lambdaL2": {"type": "loguniform", "low": 1e-3, "high": 100},
}
_PEERS = ("optuna", "flaml")
_ENOUGH = 100_000
_METHOD = (
    "Each searches by itself on this machine, for as long as the others, for the lowest validation RMSE: retune (tpe, "
    "untracked, distributed fits in a warm Spark session), Optuna (tpe, native LightGBM, the same space) and FLAML "
    "(native LightGBM, its own space). Neither imports nor Spark's start count. What each found is then fitted to "
    "train and validation rows and scored on the test rows. A seed draws the splits, the same for all, and seeds the "
    "search."
)


@dataclass(frozen=True)
class Task:
    """What all search on: rows with `retune_split`, and for how long."""

    frame: pd.DataFrame
    seconds: float
    seed: int


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
    try:
        frame = _DATA[name]()
    except Skipped as reason:
        print(f"skipped: {name}. {reason}.", file=sys.stderr)
        return
    for seed in range(arguments.seeds):
        task = Task(_with_splits(frame, seed), arguments.seconds, seed)
        for contender in ("retune", *_PEERS):
            told = _search_retune(spark, task) if contender == "retune" else _ask(place, task, contender)
            print(f"{name}, seed {seed}, {contender}: {told}", file=sys.stderr, flush=True)
            yield {"data": name, "seed": seed, "contender": contender, **told}


def _with_splits(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    shares = list(_SPLITS.values())
    splits = np.random.default_rng(seed).choice(list(_SPLITS), size=len(frame), p=shares)
    return frame.assign(**{SPLIT: splits})


def _search_retune(spark: SparkSession, task: Task) -> dict[str, float]:
    trainer = load_trainer("synapseml_lightgbm")
    fields = {"metric": "rmse", "max_trials": _ENOUGH, "seed": task.seed, "space": _SPACE}
    rows = as_spark_rows(spark, task.frame, TARGET)
    train, validation, test = (rows.where(f"{SPLIT} = '{split}'") for split in _SPLITS)
    with laid_out(train, trainer) as train, laid_out(validation, trainer) as validation:

        def objective(setting: Setting, _attempt: Attempt) -> dict[str, float]:
            model = trainer.fit(train, setting, "regression", classes=0, seed=task.seed)
            return score_splits(model.transform(validation), "regression", classes=0, metric="rmse")

        objective({"numIterations": 20}, Attempt())  # warms the session for rows of this kind
        started = time.perf_counter()
        over = ("time", lambda _: time.perf_counter() - started >= task.seconds)
        plan = Plan(METRICS["rmse"], Budget(_ENOUGH, stop_function=over))
        result = run_search(build_engine(Search.model_validate(fields)), objective, NoTracker(), plan)
        search_s = time.perf_counter() - started
        with laid_out(train.unionByName(validation), trainer) as both:
            model = trainer.fit(both, result.best.setting, "regression", classes=0, seed=task.seed)
            score = score_splits(model.transform(test), "regression", classes=0, metric="rmse")["test_r2"]
    return {"test_r2": score, "trials": len(result.trials), "search_s": search_s}


def _ask(place: Place, task: Task, contender: str) -> dict[str, float]:
    rows, order = place.home / "quality.parquet", place.home / "quality.json"
    task.frame.to_parquet(rows, index=False)
    about = {"rows": str(rows), "target": TARGET, "split": SPLIT, "space": _SPACE}
    order.write_text(json.dumps({**about, "seconds": task.seconds, "seed": task.seed}), encoding="utf-8")
    return ask_peer(place, "quality_peers.py", contender, str(order))


def _load_california() -> pd.DataFrame:
    require_california()
    return datasets.fetch_california_housing(as_frame=True).frame.rename(columns={"MedHouseVal": TARGET})


_DATA: dict[str, Callable[[], pd.DataFrame]] = {
    "California Housing": _load_california,
    "diabetes": lambda: datasets.load_diabetes(as_frame=True).frame.rename(columns={"target": TARGET}),
    "synthetic": lambda: make_synthetic(20_000, seed=42),
}


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
