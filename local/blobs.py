"""`make blobs`: an Azure Blob server on this machine (Azurite), with TalkingData's tables and a connection to it.

A new account key is made at every start; it is known to Azurite and to Airflow's encrypted database only.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from azure.storage.blob import BlobServiceClient

from retune import settings

ACCOUNT = "devstoreaccount1"
CONNECTION = CONTAINER = "talkingdata"
_PORT = 10000  # Azurite's own
_START_TIMEOUT_S = 60


def main() -> int:
    folder = _parse_folder()
    tables = sorted(folder.glob("*.csv*"))
    command = _find_azurite()
    if not tables:
        return _fail(f"{folder} has no tables; `make talkingdata` writes some")
    if command is None:
        return _fail("needs Azurite, which `make setup-dev` installs where npm is")
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    try:
        with azurite(command, settings.home() / "blobs", key) as url:
            _upload(url, key, tables)
            _connect(url, key)
            print(f"{len(tables)} tables in the container {CONTAINER}, for Airflow's connection {CONNECTION}.")
            print("Now `make demo EXPERIMENT=talkingdata`, in another terminal. Ctrl-C ends this server.", flush=True)
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        return 0


@contextmanager
def azurite(command: str, folder: Path, key: str) -> Iterator[str]:
    """Start Azurite on loopback, with its state in `folder`; give the account's URL, and end it."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    server = subprocess.Popen(
        [command, "--location", str(folder), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent",
         "--skipApiVersionCheck", "--disableTelemetry"],
        env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"},
    )  # fmt: skip
    try:
        _wait_for(port, server)
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"
    finally:
        server.terminate()
        server.wait()


def _parse_folder() -> Path:
    parser = argparse.ArgumentParser(prog="local/blobs.py", description=__doc__)
    parser.add_argument("--folder", type=Path, default=settings.home() / "data" / "talkingdata", help="of the tables")
    return Path(parser.parse_args().folder)


def _find_azurite() -> str | None:
    own = settings.home() / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    return str(own) if own.exists() else shutil.which("azurite-blob")


def _upload(url: str, key: str, tables: list[Path]) -> None:
    container = BlobServiceClient(url, credential=key).get_container_client(CONTAINER)
    if not container.exists():
        container.create_container()
    for path in tables:
        print(f"uploading {path.name}", flush=True)
        with path.open("rb") as file:
            container.upload_blob(path.name, file, overwrite=True)


def _connect(url: str, key: str) -> None:
    """Tell Airflow the connection, in a file for this user only and not on a command line."""
    connection = {"conn_type": "wasb", "host": url, "login": ACCOUNT, "password": key}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "connections.json"
        file.write_text(json.dumps({CONNECTION: connection}))
        subprocess.run(["airflow", "connections", "import", "--overwrite", str(file)], check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", _PORT))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(_START_TIMEOUT_S * 10):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit("retune: Azurite did not start")


def _fail(reason: str) -> int:
    print(f"retune: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
