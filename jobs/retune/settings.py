"""What the environment says: where state lives, by default below `$RETUNE_HOME`, and where Java is.

Standard library only: Airflow imports this at every parse.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path


def home() -> Path:
    """Return the folder of all local state: `$RETUNE_HOME`, by default `.retune` beside `jobs/`."""
    default = Path(__file__).resolve().parents[2] / ".retune"
    return Path(os.environ.get("RETUNE_HOME") or default).resolve()


def experiments_folder() -> Path:
    """Return the folder of experiment files: `$RETUNE_EXPERIMENTS`, by default `experiments` beside `jobs/`."""
    default = Path(__file__).resolve().parents[2] / "experiments"
    return Path(os.environ.get("RETUNE_EXPERIMENTS") or default).resolve()


def workspace() -> str:
    """Return the URI below which stages write data: `$RETUNE_WORKSPACE`, which every Spark node must see."""
    return (os.environ.get("RETUNE_WORKSPACE") or f"file://{home()}/data").rstrip("/")


def tracking_uri() -> str:
    """Return MLflow's tracking URI: `$MLFLOW_TRACKING_URI`, by default a SQLite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def artifact_root() -> str | None:
    """Return where artifacts of a database store go; None where a server decides."""
    return None if tracking_uri().startswith(("http://", "https://")) else (home() / "artifacts").as_uri()


def mlflow_ui() -> str:
    """Return the address a browser finds MLflow at: `$RETUNE_MLFLOW_UI`, or the server, or MLflow's default port."""
    uri = without_password(tracking_uri())
    default = uri if uri.startswith(("http://", "https://")) else "http://127.0.0.1:5000"
    return (os.environ.get("RETUNE_MLFLOW_UI") or default).rstrip("/")


def run_page(experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page; MLflow would else show its side of language models around it."""
    return f"{mlflow_ui()}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def without_password(uri: str) -> str:
    """Return `uri` without its user and password, fit for a log or a link; what Azure's have before @ is no user."""
    uri = re.sub(
        r"(?i)([?&](?:sig|signature|password|token|key|x-amz-signature|x-amz-security-token)=)[^&\s]*", r"\1***", uri
    )
    # As SQLAlchemy reads it: a password may hold a slash, but no @.
    return re.sub(r"(?i)(?<!\babfs)(?<!\babfss)(?<!\bwasb)(?<!\bwasbs)://[^:/@\s]*(:[^@\s]*)?@", "://", uri)


def why_no_java() -> str | None:
    """Return what keeps Spark from finding Java, and the way out; None if `JAVA_HOME`, or else PATH, leads to one."""
    java_home = os.environ.get("JAVA_HOME")
    if (Path(java_home) / "bin" / "java").exists() if java_home else shutil.which("java"):
        return None
    where = f"JAVA_HOME = {java_home} has no bin/java" if java_home else "JAVA_HOME is not set, no java on the PATH"
    return f"Spark needs Java 8, 11 or 17, but {where}; run `make setup` and `. .retune/env`"
