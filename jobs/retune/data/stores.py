"""Stores of blobs: opened with a connection's credentials, listed with what tells one version of a blob from the next.

Each is an fsspec file system on the driver. Nothing of a credential goes into Spark's or Hadoop's configuration, which
web pages, event logs and executors show; see docs/decisions/0018.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import fsspec

from retune.connection import Connection
from retune.data.store_options import store_options
from retune.data_section import BlobData
from retune.errors import BadInput, RetuneError, root_cause

_PROTOCOLS = {"azure_blob": "az", "s3": "s3", "gcs": "gs", "http": "http"}
# What the stores' libraries say when they do not know who is asking, or do not let him.
_REFUSALS = re.compile(
    r"(?i)authenticat|authoriz|access ?denied|forbidden|signature|invalidaccesskeyid|credential|signing|\b40[13]\b"
    r"|public access is not permitted"
)


@dataclass(frozen=True)
class Blob:
    """One blob as its store lists it.

    Attributes:
        name: As the store has it, container first.
        size: In bytes; None where the store does not tell before it sends it.
        version: Changes whenever the content does (an ETag); None where the store tells none.
    """

    name: str
    size: int | None
    version: str | None


class Store:
    """A store as one experiment's `data` names it."""

    def __init__(self, data: BlobData, connection: Connection | None) -> None:
        self._data, self._connection = data, connection or Connection()
        # fsspec keeps file systems, and what they listed, for whoever asks with the same options.
        own = {"skip_instance_cache": True, "use_listings_cache": False}
        try:
            self._files = fsspec.filesystem(_PROTOCOLS[data.source], **own, **store_options(data, connection))
        except BadInput:
            raise
        except Exception as error:  # nobody was asked yet, so it is the form of a credential that is wrong
            reason = self._connection.hide_secrets(f"{type(error).__name__}: {error}")[:300]
            raise BadInput(f"data.connection = {data.connection!r}: cannot be used ({reason})") from None

    def find(self, table: str) -> list[Blob]:
        """Return the blobs of a table, by name: one, those of a folder, or those that match a glob.

        Raises:
            BadInput: There is none, or the store refuses the credential.
            RetuneError: The store does not answer.
        """
        what, root = self._data.field(table), self._data.root
        with self._errors(what):
            found = self._list(root + self._data.paths[table])
            if not found and root and not self._files.exists(root):
                raise BadInput(f"{what}: {self._data.locate('')} is not there; check its name, and whose it is")
        if not found:
            raise BadInput(f"{what}: there is no such blob at {self._data.locate('') or 'this address'}")
        return [_blob(name, details) for name, details in sorted(found.items())]

    def fetch(self, table: str, blob: Blob, target: Path) -> None:
        """Copy a blob to a local file; a part of one counts as nothing.

        Raises:
            RetuneError: It came only in part, or not at all.
        """
        with self._errors(self._data.field(table)):
            self._files.get_file(blob.name, str(target))
        came = target.stat().st_size
        if blob.size is not None and came != blob.size:
            raise RetuneError(f"{self._data.field(table)}: {came} of {blob.size} bytes of {blob.name} came; try again")

    def version(self, table: str, blob: Blob) -> str | None:
        """Return the version that a blob has now."""
        with self._errors(self._data.field(table)):
            return _blob(blob.name, self._files.info(blob.name)).version

    def _list(self, path: str) -> dict[str, dict[str, Any]]:
        if self._data.source != "http" and any(sign in path for sign in "*?["):
            return _shown({n: d for n, d in self._files.glob(path, detail=True).items() if d["type"] == "file"})
        # Not `isfile`, which takes any error for a no.
        try:
            details = self._files.info(path)
        except FileNotFoundError as error:
            # Whatever goes wrong with a web server, fsspec says that the file is not there.
            if self._data.source == "http" and getattr(error.__cause__, "status", None) != HTTPStatus.NOT_FOUND:
                raise error.__cause__ or error from None
            return {}
        if details["type"] == "file":
            return {path: details}
        return _shown(self._files.find(path, detail=True))

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Say in a line what a store's library says in many, without the credential, and whose fault it is."""
        try:
            yield
        except RetuneError:
            raise
        except Exception as error:
            text = self._connection.hide_secrets(f"{type(error).__name__}: {root_cause(error)}")
            reason = " ".join(text.split())[:300]
            if isinstance(error, FileNotFoundError) or any(sign in text.lower() for sign in ("notfound", "nosuch")):
                raise BadInput(f"{what}: is not there ({reason})") from None
            if isinstance(error, PermissionError) or _REFUSALS.search(text):
                name = self._data.connection
                who = f"the credential of connection {name!r}" if name else "whoever this machine is"
                way_out = "check its key or token, and when that expires" if name else "name one in data.connection"
                raise BadInput(f"{what}: {who} is refused; {way_out} ({reason})") from None
            raise RetuneError(f"{what}: cannot be read from its store ({reason})") from None


def _shown(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Leave out what Spark and Hadoop do, such as _SUCCESS, and the empty blobs that stand for folders."""
    return {n: d for n, d in found.items() if not n.rsplit("/", 1)[-1].startswith(("_", ".")) and d["size"]}


def _blob(name: str, details: dict[str, Any]) -> Blob:
    lower = {key.lower(): value for key, value in details.items()}
    version = lower.get("etag") or lower.get("last-modified")
    return Blob(name, lower.get("size"), str(version).strip('"') if version else None)
