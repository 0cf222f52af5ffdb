"""`make soak`: one application that fits hundreds of models; what a trial takes, and whether memory levels off."""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from measure import BenchError
from place import ROOT, Place, temporary_place
from stages import prepare_search, run_stage

_EXPERIMENT = ROOT / "experiments" / "diabetes.yaml"
_EVERY = 10
_LONGEST_S = 60
_GROWS = "DOES NOT LEVEL OFF"
_LEVEL = 1.1
_TRIAL = re.compile(r" (\d+)/\d+  trial .* in ([\d.]+) s  elapsed ")
_COLLECTED = re.compile(r"Pause Full .*->(\d+)M\(\d+M\)")
# A heap that has its whole size from the start, so that what the JVM takes beside it shows; and full collections, which
# Spark itself asks for every half hour, so that what is held in it shows. What Spark's web page tells of the last 1000
# jobs grows by 0.1 MB a trial until there are so many; of 50 it does not hide what else would.
_SPARK = """
spark.driver.memory            1g
spark.driver.extraJavaOptions  -Xms1g -XX:+AlwaysPreTouch -Xlog:gc:file={log}
spark.cleaner.periodicGC.interval  5s
spark.ui.retainedJobs              50
spark.ui.retainedStages            50
spark.sql.ui.retainedExecutions    50
"""


@dataclass
class Watcher:
    """Reads what tune prints, and looks at its two processes as it goes on.

    Attributes:
        collections: The JVM's log of them.
        durations: What each trial took, in seconds, as the search tells.
        driver_mb: Resident memory of the Python driver, every so many trials.
        heap_mb: What the JVM that spark-submit is held in its heap after its last full collection.
        jvm_mb: The JVM's resident memory.
    """

    collections: Path
    durations: list[float] = field(default_factory=list)
    driver_mb: list[float] = field(default_factory=list)
    heap_mb: list[float] = field(default_factory=list)
    jvm_mb: list[float] = field(default_factory=list)
    _since: float = 0.0

    def __call__(self, job: subprocess.Popen[str], line: str) -> None:
        """Take in one line."""
        if not (found := _TRIAL.search(line)):
            return
        self._since = self._since or time.monotonic() - float(found[2])
        self.durations.append(float(found[2]))
        if int(found[1]) % _EVERY:
            return
        jvm = psutil.Process(job.pid)
        self.driver_mb.append(_driver_of(jvm).memory_info().rss / 2**20)
        held = _COLLECTED.findall(self.collections.read_text()) or [math.nan]
        self.heap_mb.append(float(held[-1]))
        self.jvm_mb.append(jvm.memory_info().rss / 2**20)
        now = time.monotonic()
        per_trial, self._since = (now - self._since) / _EVERY, now
        memory = " | ".join(f"{samples[-1]:.0f}" for samples in (self.driver_mb, self.heap_mb, self.jvm_mb))
        print(f"| {found[1]} | {per_trial:.2f} | {memory} |", flush=True)


def _driver_of(jvm: psutil.Process) -> psutil.Process:
    """Return the Python driver; the JVM has helpers beside it that end at any moment."""
    for child in jvm.children():
        with suppress(psutil.NoSuchProcess):
            if "tune.py" in " ".join(child.cmdline()):
                return child
    raise BenchError("the job has no Python driver")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/soak.py", description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="how many; 200 by default")
    parser.add_argument("--parallel", type=int, default=1, help="how many side by side; 1 by default")
    arguments = parser.parse_args()
    trials = arguments.trials
    try:
        with temporary_place() as place:
            watcher = Watcher(_log_collections(place))
            upstream = prepare_search(place, _experiment(place, arguments.parallel), max_trials=trials)
            print("| trial | seconds per trial | driver MB | JVM's heap in use MB | JVM MB |", flush=True)
            print("|---|---|---|---|---|", flush=True)
            run_stage(place, "tune", "--upstream-run-id", upstream, watch=watcher)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    longest = max(watcher.durations)
    print(f"\n{len(watcher.durations)} trials; the longest took {longest:.1f} s, of {_LONGEST_S} s that one may take.")
    weighed = {"the Python driver": watcher.driver_mb, "the JVM's heap": watcher.heap_mb, "the JVM": watcher.jvm_mb}
    verdicts = [_verdict(what, samples) for what, samples in weighed.items()]
    print("\n".join(verdicts))
    grows = any(_GROWS in verdict for verdict in verdicts)
    return int(longest > _LONGEST_S or len(watcher.durations) < trials or grows)


def _log_collections(place: Place) -> Path:
    """Have the JVM of each job log its collections; return the file."""
    log, folder = place.home / "collections.log", place.home / "spark"
    shutil.copytree(os.environ["SPARK_CONF_DIR"], folder)
    with (folder / "spark-defaults.conf").open("a") as defaults:
        defaults.write(_SPARK.format(log=log))
    place.env["SPARK_CONF_DIR"] = str(folder)
    return log


def _experiment(place: Place, parallel: int) -> Path:
    """Write the experiment with so many trials side by side."""
    path = place.home / _EXPERIMENT.name
    path.write_text(_EXPERIMENT.read_text().replace("search:\n", f"search:\n  parallel_trials: {parallel}\n"))
    return path


def _verdict(what: str, samples: list[float]) -> str:
    """Tell whether memory levels off: the last quarter is hardly more than the second."""
    quarter = len(samples) // 4
    if not quarter:
        return f"{what}: too few samples to tell"
    second, last = (statistics.fmean(part) for part in (samples[quarter : 2 * quarter], samples[-quarter:]))
    level = "levels off" if last <= second * _LEVEL else _GROWS
    return (
        f"{what} {level}: {second:.0f} MB in the second quarter, {last:.0f} MB in the last ({last / second - 1:+.1%})"
    )


if __name__ == "__main__":
    sys.exit(main())
