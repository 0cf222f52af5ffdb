"""The Python of `.venv-bench`, which has what retune is held against and does not depend on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from measure import Skipped, ask_process
from place import ROOT, Place


def ask_peer(place: Place, script: str, *arguments: str) -> dict[str, Any]:
    """Run a script of this folder that measures itself, by the peers' Python; return what it tells.

    Raises:
        Skipped: There is no such Python.
        BenchError: The script failed.
    """
    python = Path(os.environ.get("RETUNE_BENCH_PYTHON") or ROOT / ".venv-bench" / "bin" / "python")
    if not python.exists():
        raise Skipped("The peers are not installed; run it by `make bench`, which makes .venv-bench")
    # retune's own environment must not shine through.
    clean = {name: value for name, value in place.env.items() if name not in ("PYTHONPATH", "SPARK_HOME")}
    of_peers = {"PYSPARK_PYTHON": str(python), "PYSPARK_DRIVER_PYTHON": str(python)}
    path = {"PATH": f"{python.parent}{os.pathsep}{place.env['PATH']}"}
    return ask_process([str(python), str(ROOT / "bench" / script), *arguments], {**clean, **of_peers, **path})
