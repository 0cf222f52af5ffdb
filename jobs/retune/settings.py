"""Where state lives: read from the environment, with defaults below `$RETUNE_HOME`.

Standard library only: Airflow imports this at every parse.
"""

from __future__ import annotations

import os
import re
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


def without_password(uri: str) -> str:
    """Return `uri` without its user and password, fit for a log or a link; what Azure's have before @ is no user."""
    uri = re.sub(
        r"(?i)([?&](?:sig|signature|password|token|key|x-amz-signature|x-amz-security-token)=)[^&\s]*", r"\1***", uri
    )
    # As SQLAlchemy reads it: a password may hold a slash, but no @.
    return re.sub(r"(?i)(?<!\babfs)(?<!\babfss)(?<!\bwasb)(?<!\bwasbs)://[^:/@\s]*(:[^@\s]*)?@", "://", uri)
