"""`make bench-search`: what Hyperopt's tpe finds against its random search, at equal trials, seed by seed.

On two standard test functions, and on California Housing with SynapseML's LightGBM; all through retune's own engine and
search loop. The lowest loss of each search is shown, so lower is better. Both functions have as many trials and seeds,
and tpe the same settings everywhere. These were chosen after 60 and 25 trials, 20 of them random, had told little, but
before any run with them: nothing is fitted to what comes out.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from sklearn.datasets import fetch_california_housing
from warm import NoTracker, as_spark_rows

from retune.data.splits import SPLIT
from retune.evaluation import score_splits
from retune.metrics import METRICS
from retune.placements.rows import laid_out
from retune.search.engine import build_engine
from retune.search.loop import run_search
from retune.search.plan import Plan
from retune.search.stopping import Budget
from retune.search.trial import Attempt, Objective
from retune.search_section import Search
from retune.space import Setting
from retune.trainers import load_trainer

_RANDOM_AT_FIRST = 10  # in place of Hyperopt's 20, so that most of a search is tpe's
_SETTINGS: dict[str, dict[str, float]] = {"tpe": {"n_startup_jobs": _RANDOM_AT_FIRST}, "rand": {}}
_FUNCTION_TRIALS, _FUNCTION_SEEDS = 100, 30
_HOUSING_TRIALS, _HOUSING_SEEDS = 50, 10
_HOUSING_ROWS = {"train": 1000, "validation": 500}  # so few, since 900 fits are to take five minutes
_SUMMARY: dict[str, Callable[[list[float]], float]] = {
    "median": statistics.median,
    "lower quartile": lambda losses: statistics.quantiles(losses)[0],
    "upper quartile": lambda losses: statistics.quantiles(losses)[2],
    "mean": statistics.fmean,
    "standard deviation": statistics.stdev,
}
_HOUSING_SPACE = {
    "learningRate": {"type": "loguniform", "low": 0.005, "high": 1},
    "numLeaves": {"type": "uniformint", "low": 4, "high": 128},
    "numIterations": {"type": "uniformint", "low": 10, "high": 100},
    "minDataInLeaf": {"type": "uniformint", "low": 1, "high": 100},
    "baggingFraction": {"type": "uniform", "low": 0.3, "high": 1},
    "featureFraction": {"type": "uniform", "low": 0.3, "high": 1},
    "lambdaL2": {"type": "loguniform", "low": 1e-3, "high": 100},
}
"""That of experiments/california_housing.yaml, widened, so that few settings are good; squared error needs no alpha."""


@dataclass(frozen=True)
class Task:
    """What is searched.

    Attributes:
        title: For a reader.
        objective: Gives `validation_rmse`; the value itself for a test function.
        space: As an experiment file has it.
        trials: Of each search.
        seeds: How many searches there are with each algorithm; their seeds are 0, 1, ….
        optimum: The least value there is, where that is known.
    """

    title: str
    objective: Objective
    space: Mapping[str, object]
    trials: int
    seeds: int
    optimum: float | None = None


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/tpe_vs_rand.py", description="Hyperopt's tpe against its rand.")
    parser.add_argument("--only", choices=("functions", "housing"), help="these searches alone")
    only = parser.parse_args().only
    if only != "housing":
        for task in function_tasks():
            compare(task)
    if only != "functions":
        with housing_task() as task:
            compare(task)
    return 0


def compare(task: Task) -> None:
    """Search with both algorithms and every seed, and print the table."""
    known = "" if task.optimum is None else f", least value {task.optimum:g}"
    print(f"\n## {task.title}, {task.trials} trials{known}\n\n| seed | tpe | rand |\n|---|---|---|", flush=True)
    found: dict[str, list[float]] = {algorithm: [] for algorithm in _SETTINGS}
    for seed in range(task.seeds):
        for algorithm, losses in found.items():
            losses.append(search_once(task, algorithm, seed))
        print(f"| {seed} | {found['tpe'][-1]:.5g} | {found['rand'][-1]:.5g} |", flush=True)
    for name, of in _SUMMARY.items():
        print(f"| {name} | {of(found['tpe']):.5g} | {of(found['rand']):.5g} |")
    pairs = list(zip(found["tpe"], found["rand"], strict=True))
    ties = sum(math.isclose(tpe, rand, rel_tol=1e-9) for tpe, rand in pairs)
    wins = sum(tpe < rand and not math.isclose(tpe, rand, rel_tol=1e-9) for tpe, rand in pairs)
    defeats = len(pairs) - wins - ties
    print(f"\ntpe is better in {wins} of {len(pairs)} seeds, rand in {defeats}, {ties} are equal;", end=" ")
    print(f"p = {sign_test(wins, defeats):.2g} (two-sided sign test).")
    print(f"tpe's first {_RANDOM_AT_FIRST} proposals are random, and the same as rand's.", flush=True)


def sign_test(wins: int, losses: int) -> float:
    """Return how likely so uneven a count, or a more uneven one, would be of a fair coin."""
    tosses = wins + losses
    return min(1.0, 2 * sum(math.comb(tosses, heads) for heads in range(min(wins, losses) + 1)) / 2**tosses)


def search_once(task: Task, algorithm: str, seed: int) -> float:
    """Return the least loss that one search finds."""
    fields = {"metric": "rmse", "max_trials": task.trials, "seed": seed, "space": task.space}
    search = Search.model_validate(fields | {"algorithm": algorithm, "algorithm_settings": _SETTINGS[algorithm]})
    plan = Plan(METRICS[search.metric], Budget(task.trials))
    result = run_search(build_engine(search), task.objective, NoTracker(), plan)
    failed = [trial.error for trial in result.trials if trial.error]
    if failed:
        print(f"{len(failed)} trials failed, the first with: {failed[0]}", file=sys.stderr)
    assert result.best.loss is not None
    return result.best.loss


def function_tasks() -> Iterator[Task]:
    """Yield Branin and Hartmann-6 on their usual domains."""
    yield Task(
        "Branin (2 parameters)",
        _objective_of(branin),
        {"x": {"type": "uniform", "low": -5, "high": 10}, "y": {"type": "uniform", "low": 0, "high": 15}},
        _FUNCTION_TRIALS,
        _FUNCTION_SEEDS,
        optimum=0.397887,
    )
    yield Task(
        "Hartmann-6 (6 parameters)",
        _objective_of(hartmann6),
        {f"x{index}": {"type": "uniform", "low": 0, "high": 1} for index in range(6)},
        _FUNCTION_TRIALS,
        _FUNCTION_SEEDS,
        optimum=-3.32237,
    )


def _objective_of(function: Callable[[Setting], float]) -> Objective:
    def objective(setting: Setting, _attempt: Attempt) -> dict[str, float]:
        return {"validation_rmse": function(setting)}

    return objective


def branin(setting: Setting) -> float:
    """Dixon and Szegö, 1978."""
    x, y = setting["x"], setting["y"]
    square = (y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2
    return float(square + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


_WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_SCALES = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_CENTRES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(setting: Setting) -> float:
    """Dixon and Szegö, 1978."""
    point = np.array([setting[f"x{index}"] for index in range(6)])
    return float(-_WEIGHTS @ np.exp(-(_SCALES * (point - _CENTRES) ** 2).sum(axis=1)))


@contextmanager
def housing_task() -> Iterator[Task]:
    """Give the search on real rows, fitted and scored as tune does it, while its Spark session runs.

    Every search has the same rows and the same seed for its fits, so that a setting has one loss, and those that both
    algorithms try first are fitted once.
    """
    trainer = load_trainer("synapseml_lightgbm")
    spark = SparkSession.builder.master("local[2]").appName("tpe against rand").getOrCreate()
    try:
        spark.sparkContext.setLogLevel("ERROR")
        rows = _housing_rows(spark)
        train, validation = (rows.where(f"{SPLIT} = '{split}'") for split in _HOUSING_ROWS)
        with laid_out(train, trainer) as train, laid_out(validation, trainer) as validation:
            measured: dict[str, dict[str, float]] = {}

            def objective(setting: Setting, _attempt: Attempt) -> dict[str, float]:
                key = json.dumps(setting)
                if key not in measured:
                    measured[key] = fit_and_score(setting)
                return measured[key]

            def fit_and_score(setting: Setting) -> dict[str, float]:
                # Without a frequency, LightGBM ignores the bagging fraction.
                model = trainer.fit(train, {"baggingFreq": 1, **setting}, "regression", classes=0, seed=42)
                return score_splits(model.transform(validation), "regression", classes=0, metric="rmse")

            counts = " + ".join(f"{count:,} {split}" for split, count in _HOUSING_ROWS.items())
            title = f"California Housing ({len(_HOUSING_SPACE)} parameters, {counts} rows, validation RMSE)"
            yield Task(title, objective, _HOUSING_SPACE, _HOUSING_TRIALS, _HOUSING_SEEDS)
    finally:
        spark.stop()


def _housing_rows(spark: SparkSession) -> DataFrame:
    frame = fetch_california_housing(as_frame=True).frame.sample(sum(_HOUSING_ROWS.values()), random_state=42)
    frame[SPLIT] = np.repeat(list(_HOUSING_ROWS), list(_HOUSING_ROWS.values()))
    return as_spark_rows(spark, frame, "MedHouseVal")


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    sys.exit(main())
