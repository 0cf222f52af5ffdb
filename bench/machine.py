"""What a page of results says of the machine that they were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-apache-spark",
    "pyspark",
    "mlflow",
    "synapseml",
    "hyperopt",
    "optuna",
    "lightgbm",
    "scikit-learn",
)


def look_at_machine() -> dict[str, Any]:
    """Return it as JSON has it; call it before anything is measured."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": _commit(),
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


def _commit() -> str:
    """Return which code is measured; empty outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _java_version() -> str:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    return told.split('"')[1]


def describe(machine: dict[str, Any]) -> str:
    """Return it as a sentence."""
    commit = f" at {machine['commit']}" if machine.get("commit") else ""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"Measured on {machine['date']}{commit}: {machine['system']}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GiB, load average before the start {machine['load_before']:g}; {versions}."
    )
