"""Servers that stand for the stores of blobs: Azurite, Moto, and a web server, all on loopback."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Y2FuYXJ5LWtleS1vZi10aGlzLXRlc3QtYW5kLW5vdGhpbmctZWxzZQ=="
"""Of no account that there is: Azurite is told this one in place of its own."""


def find_azurite() -> str | None:
    """Return the command that starts Azurite's blob server, as `make setup-dev` has installed it, or as on the PATH."""
    home = os.environ.get("RETUNE_HOME")
    own = Path(home) / "azurite" / "node_modules" / ".bin" / "azurite-blob" if home else None
    return str(own) if own and own.exists() else shutil.which("azurite-blob")


@contextmanager
def azurite(folder: Path) -> Iterator[tuple[str, Path]]:
    """Start Azurite; give the account's URL and the log of requests."""
    port, command = free_port(), find_azurite()
    assert command
    log = folder / "access.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [command, "--location", str(folder), "--blobHost", "127.0.0.1", "--blobPort", str(port),
             "--skipApiVersionCheck", "--disableTelemetry"],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{ACCOUNT_KEY}"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _wait_for(port, server)
            yield f"http://127.0.0.1:{port}/{ACCOUNT}", log
        finally:
            server.terminate()
            server.wait(30)


@contextmanager
def web_server(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder; give its URL and the requests so far."""
    requests: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def send_head(self) -> Any:
            """Below /private, only for who is me:of-web; /elsewhere?URL sends to that."""
            if self.path.startswith("/elsewhere?"):
                self.send_response(302)
                self.send_header("Location", self.path.partition("?")[2])
                self.end_headers()
                return None
            if self.path.startswith("/private") and self.headers.get("Authorization") != "Basic bWU6b2Ytd2Vi":
                self.send_error(401)
                return None
            return super().send_head()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            requests.append(format % args)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, "the server ended"
        time.sleep(0.1)
    raise AssertionError("the server does not answer")
