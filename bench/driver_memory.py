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
_CLUSTER = "local-cluster[1,2,1024]"
_MB = 2**20


def measure(place: Place, rounds: int) -> Figure:
    """Search on both sizes, each in a process and a JVM of its own."""
    from rows import prepare

    few, many = _ROWS
    figure = Figure(
        NAME,
        f"Driver memory with {many:,} rows over that with {few:,}",
        f"After a search of {_TRIALS} trials with one executor of 2 cores in a process of its own, and its rows "
        "still held: resident memory of the Python driver, and the heap in use of the driver's JVM after a full "
        "collection. Each size has a driver of its own.",
        goal=1.1,
        unit="MB",
    )
    for _ in range(rounds):
        told = {rows: ask_process([sys.executable, __file__, prepare(place, rows)], place.env) for rows in _ROWS}
        parts = {f"{rows:,} rows: {what}": mb for rows, each in told.items() for what, mb in each.items()}
        figure.add(sum(told[many].values()) / sum(told[few].values()), parts)
    return figure


def search_and_weigh(place: Place, featurized: str) -> dict[str, float]:
    """Search, and return megabytes by what holds them."""
    from warm import tuning

    with tuning(place, featurized, _CLUSTER) as held:
        held.search(_TRIALS)
        gc.collect()
        return {"Python": psutil.Process().memory_info().rss / _MB, "JVM's heap": _heap_mb(held.spark)}


def _heap_mb(spark: SparkSession) -> float:
    jvm: Any = spark._jvm
    for _ in range(3):
        jvm.java.lang.System.gc()
    runtime = jvm.java.lang.Runtime.getRuntime()
    return float(runtime.totalMemory() - runtime.freeMemory()) / _MB


if __name__ == "__main__":
    import os

    here = Place(Path(os.environ["RETUNE_HOME"]), dict(os.environ))
    print(json.dumps(search_and_weigh(here, sys.argv[1])))
