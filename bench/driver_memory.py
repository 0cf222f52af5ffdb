"""How the driver's own memory grows with the rows it searches on: hardly, for the rows are Spark's to hold.

Run as a script, it is the process that is measured: it searches, and prints its memory as JSON.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import psutil
from measure import Figure, ask_process
from place import Place
from pyspark.sql import SparkSession

NAME = "driver_memory"
ROUNDS = 1
_ROWS = (200_000, 1_000_000)
_TRIALS = 4
_MB = 2**20


def measure(place: Place, rounds: int) -> Figure:
    """Search on both sizes, each in a process and a JVM of its own."""
    from rows import prepare

    few, many = _ROWS
    figure = Figure(
        NAME,
        f"Driver memory with {many:,} rows over that with {few:,}",
        f"After a search of {_TRIALS} trials in local mode, with its rows still held: resident memory of the Python "
        "driver, and the JVM's heap in use after a full collection, less what Spark's storage memory holds, which are "
        "the rows: on a cluster, they are the executors'. Each size has a process of its own.",
        goal=1.1,
        unit="MB",
    )
    for _ in range(rounds):
        told = {rows: ask_process([sys.executable, __file__, prepare(place, rows)], place.env) for rows in _ROWS}
        parts = {f"{rows:,} rows: {what}": mb for rows, each in told.items() for what, mb in each.items()}
        own = {rows: each["Python"] + each["JVM heap"] - each["of it storage"] for rows, each in told.items()}
        figure.add(own[many] / own[few], {**parts, **{f"{rows:,} rows: driver's own": own[rows] for rows in _ROWS}})
    return figure


def search_and_weigh(place: Place, featurized: str) -> dict[str, float]:
    """Search, and return megabytes by what holds them."""
    from warm import tuning

    with tuning(place, featurized) as held:
        held.search(_TRIALS)
        gc.collect()
        heap, storage = _jvm_memory(held.spark)
        return {"Python": psutil.Process().memory_info().rss / _MB, "JVM heap": heap, "of it storage": storage}


def _jvm_memory(spark: SparkSession) -> tuple[float, float]:
    jvm: Any = spark._jvm
    for _ in range(3):
        jvm.java.lang.System.gc()
    runtime = jvm.java.lang.Runtime.getRuntime()
    status = spark.sparkContext._jsc.sc().getExecutorMemoryStatus().values().head()
    return (runtime.totalMemory() - runtime.freeMemory()) / _MB, (status._1() - status._2()) / _MB


if __name__ == "__main__":
    import os

    here = Place(Path(os.environ["RETUNE_HOME"]), dict(os.environ))
    print(json.dumps(search_and_weigh(here, sys.argv[1])))
