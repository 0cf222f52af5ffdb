"""How long it is from spark-submit to the application's first Spark job, with no network, over what it may be."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from measure import BenchError, Figure, time_process
from place import ROOT, Place
from rows import prepare
from stages import as_arguments, lease_tune

NAME = "first_job"
ROUNDS = 3
_ALLOWED_S = 8
_ROWS = 20_000
# A network namespace of its own, in which there is nothing but the loopback.
_OFFLINE = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
_JOB_START = "SparkListenerJobStart"


def measure(place: Place, rounds: int) -> Figure:
    """Submit tune as the operator does, and read in Spark's event log when its jobs started."""
    offline = _OFFLINE if _may_be_offline() else []
    where = "In a network namespace with nothing but the loopback" if offline else "Not kept off the network"
    figure = Figure(
        NAME,
        f"spark-submit to first Spark job, over {_ALLOWED_S} s",
        f"From the start of the process spark-submit to the first job in Spark's event log, of a tune job over "
        f"{_ROWS:,} rows, against the {_ALLOWED_S} s that it may take: no ratio of two measurements, so it is this "
        f"machine's alone. {where}.",
        goal=1,
    )
    featurized = prepare(place, _ROWS)
    _submit(place, featurized, offline)  # warms the machine
    for _ in range(rounds):
        first_s, rows_s, all_s = _submit(place, featurized, offline)
        parts = {"first job": first_s, "first job that reads rows": rows_s, "the whole tune job": all_s}
        figure.add(first_s / _ALLOWED_S, parts)
    if offline:
        figure.remark = "The job ended well without a network, so it asks nothing of one."
    return figure


def _may_be_offline() -> bool:
    try:
        return subprocess.run([*_OFFLINE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _submit(place: Place, featurized: str, offline: list[str]) -> tuple[float, float, float]:
    """Return seconds to the first job, to the first that reads rows, and to the end."""
    events = place.home / "events"
    events.mkdir(exist_ok=True)
    before = set(events.iterdir())
    confs = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": events.as_uri()}
    command = [*offline, "spark-submit", "--master", "local[*]"]
    command += [part for name, value in confs.items() for part in ("--conf", f"{name}={value}")]
    command += [str(ROOT / "jobs" / "tune.py"), *as_arguments(lease_tune(place, featurized), featurized)]
    began = time.time()
    whole = time_process(command, place.env)
    (log,) = set(events.iterdir()) - before
    starts = _job_starts(log)
    return starts[0] - began, starts[1] - began, whole.wall_s


def _job_starts(log: Path) -> list[float]:
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if _JOB_START in line]
    starts = sorted(event["Submission Time"] / 1000 for event in events if event["Event"] == _JOB_START)
    if len(starts) < 2:
        raise BenchError(f"{log.name} has {len(starts)} Spark jobs")
    return starts
