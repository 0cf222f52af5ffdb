"""How a job is told a connection: by a pipe that it reads once; a secret is in no file, argument or environment."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def offered(connection: Any) -> Iterator[Path]:
    """Give the path of a pipe, for its owner only, from which an Airflow connection can be read once as JSON."""
    fields = {name: getattr(connection, name) for name in ("conn_type", "host", "login", "password", "port")}
    text = json.dumps({**fields, "extra": connection.extra_dejson})
    folder = Path(tempfile.mkdtemp(prefix="retune-connection-"))  # of mode 700
    pipe = folder / "connection"
    os.mkfifo(pipe, 0o600)
    writer = threading.Thread(target=_write, args=(pipe, text), name="retune-connection", daemon=True)
    writer.start()
    try:
        yield pipe
    finally:
        # A writer waits for a reader; one that nobody came to read from is let go.
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        os.close(reader)
        writer.join()
        shutil.rmtree(folder)


def _write(pipe: Path, text: str) -> None:
    with suppress(BrokenPipeError), pipe.open("w", encoding="utf-8") as end:
        end.write(text)
