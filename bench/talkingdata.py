"""TalkingData's features at the full shape, within 4 GB; and the same in pandas, which may take 16.

Run as a script, it is the process that is measured: it makes all sets of the tables in a folder as featurize does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
from measure import BenchError, Figure
from place import ROOT, Place

NAME = "talkingdata"
ROUNDS = 1
ROWS = 74_645
_LIMIT_MB = 4096
_HEAP = "2600m"
_PANDAS_GB = 16
_MB = 2**20


def measure(place: Place, rounds: int) -> Figure:
    """Make all sets by each, in processes of their own."""
    folder = place.home / "talkingdata"
    command = [sys.executable, str(ROOT / "local" / "talkingdata.py"), "--rows", str(ROWS), "--folder", str(folder)]
    subprocess.run(command, env=place.env, check=True, stdout=subprocess.DEVNULL)
    figure = Figure(
        NAME,
        f"Memory for the features of TalkingData over {_LIMIT_MB} MB",
        "All eight sets at the full shape (3.25 million events, 32.5 million app events, 74,645 devices): peak memory "
        "of driver and executor, all processes together (JVM, Python driver and workers, as the sum of their resident "
        f"memory), on two cores with a heap of {_HEAP}, from the tables as CSV to the vectors as Parquet.",
        goal=1.0,
        unit="MB",
    )
    for _ in range(rounds):
        spark = _watch([sys.executable, __file__, str(folder), f"{place.home}/out"], place)
        told = _watch([sys.executable, str(ROOT / "tests" / "talkingdata_pandas.py"), str(folder), "--limit-gb", str(_PANDAS_GB)], place)  # fmt: skip  # noqa: E501
        figure.add(
            spark[0]["peak_mb"] / _LIMIT_MB,
            {"retune: peak of all processes": spark[0]["peak_mb"], "pandas: peak": told[0]["peak_mb"]},
        )
        figure.remark = f"retune took {spark[0]['wall_s']:.0f} s for {spark[1]['slots']} features. {_pandas_way(told)}"
    return figure


def _pandas_way(told: list[dict]) -> str:
    done = ", ".join(f"{each['part']} {each['seconds']:.0f} s" for each in told[1:] if "error" not in each)
    failed = next((each for each in told[1:] if "error" in each), None)
    end = f"; then {failed['part']} ran out of {_PANDAS_GB} GB ({failed['error'][:120]})" if failed else ""
    return f"pandas, which makes dense tables, took {told[0]['wall_s']:.0f} s: {done}{end}."


def _watch(command: list[str], place: Place) -> list[dict]:
    """Run a process and return its wall time and the peak of its tree's memory; then what it printed in JSON."""
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(command, env=place.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    printed: list[str] = []
    assert process.stdout
    reader = threading.Thread(target=printed.extend, args=(process.stdout,))
    reader.start()
    while process.poll() is None:
        peak = max(peak, _resident(process.pid))
        time.sleep(0.2)
    reader.join()
    told = [json.loads(line) for line in printed if line.startswith("{")]
    if process.returncode or not told:
        raise BenchError(f"{''.join(printed[-40:])}\n{' '.join(command)}: exit code {process.returncode}")
    return [{"wall_s": time.monotonic() - started, "peak_mb": peak / _MB}, *told]


def _resident(pid: int) -> int:
    """Return the memory of a process and of all below it: a page that two share counts twice, but for a JVM's fork."""
    total, jvms = 0, 0
    with suppress(psutil.NoSuchProcess):
        for each in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                java = each.exe().endswith("/java")  # its name would be that of the thread that forked
                jvms += java
                # Between fork and exec, a child of the JVM is the JVM once more.
                total += each.memory_info().rss if not java or jvms == 1 else 0
    return total


def make_features(folder: str, out: str) -> dict[str, float]:
    """Read the CSV files with the section's types, keep them as Parquet as ingest does, and write the vectors."""
    from pyspark.sql import SparkSession

    from retune.data.splits import SPLIT, assign_splits
    from retune.experiment import Split
    from retune.features import load_features
    from retune.features.base import FEATURES
    from retune.features_section import TalkingDataFeatures

    section = TalkingDataFeatures(pipeline="talkingdata")
    builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", _HEAP)
    spark = builder.config("spark.sql.session.timeZone", "UTC").config("spark.ui.enabled", False).getOrCreate()
    tables = {}
    for name, columns in section.tables.items():
        text = spark.read.csv(f"{folder}/{name}.csv", header=True)
        text.selectExpr(*[f"cast({c} AS {kind}) AS {c}" for c, kind in columns.items()]).write.parquet(f"{out}/{name}")
        tables[name] = spark.read.parquet(f"{out}/{name}")
    pipeline, rows = load_features(section.pipeline), assign_splits(tables.pop(str(section.rows_table)), Split())
    prepared = pipeline.prepare(rows, section, tables)
    fitted = pipeline.fit(prepared.where(f"{SPLIT} = 'train'"), section, [])
    fitted.transform(prepared).write.partitionBy(SPLIT).parquet(f"{out}/rows")
    written = spark.read.parquet(f"{out}/rows")
    return {"rows": written.count(), "slots": len(written.first()[FEATURES])}


if __name__ == "__main__":
    os.environ.pop("PYSPARK_SUBMIT_ARGS", None)
    print(json.dumps(make_features(sys.argv[1], sys.argv[2])))
