"""Blobs on their way to Spark: fetched once for each version, unpacked, and kept in the workspace.

The folder of a copy says which version of which blob it is of, and appears only once the copy is whole, so that a copy
that is there is the blob, and a fetch that was cut off counts as nothing.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from pyspark.sql import SparkSession

from retune.data.stores import Blob, Store
from retune.data_section import form_by_name
from retune.errors import BadInput, RetuneError
from retune.spark import copy_from_local

log = logging.getLogger(__name__)
_AT_ONCE = 8


@dataclass(frozen=True)
class Staged:
    """A blob in the workspace.

    Attributes:
        blob: As its store listed it.
        uri: Of the copy, unpacked if it was a zip.
        fetched: Whether it was fetched now, or was there already.
    """

    blob: Blob
    uri: str
    fetched: bool


class Staging:
    """Brings the blobs of a store into a folder of the workspace.

    Args:
        spark: Writes there.
        store: Where the blobs are.
        where: The store by name, which tells its blobs from those of others.
        kept: The folder for copies of blobs whose version is known; later runs find them there.
        passing: The folder for those of others, which only this run uses.
    """

    def __init__(self, spark: SparkSession, store: Store, where: str, kept: str, passing: str) -> None:
        self._spark, self._store, self._where = spark, store, where
        self._kept, self._passing = kept, passing

    def stage(self, table: str) -> list[Staged]:
        """Bring all blobs of a table; see `Store` for errors."""
        blobs = self._store.find(table)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda blob: self._bring(table, blob), blobs))

    def _bring(self, table: str, blob: Blob) -> Staged:
        folder = self._folder_of(blob)
        if blob.version and (kept := _file_in(self._spark, folder)):
            return Staged(blob, kept, fetched=False)
        with tempfile.TemporaryDirectory(prefix="retune-blob-") as here:
            local = Path(here) / _file_name(blob.name)
            self._store.fetch(table, blob, local)
            if self._store.version(table, blob) != blob.version:
                raise RetuneError(f"{table}: {blob.name} changed while it was read; try again")
            return Staged(blob, _move_in(self._spark, unpack(local, f"{table}: {blob.name}"), folder), fetched=True)

    def _folder_of(self, blob: Blob) -> str:
        digest = hashlib.sha256(f"{self._where}|{blob.name}|{blob.version}|{blob.size}".encode()).hexdigest()[:32]
        return f"{self._kept if blob.version else self._passing}/{digest}"


def unpack(path: Path, name: str) -> Path:
    """Return the file that a zip holds, or the path itself if it is none.

    Args:
        path: Of a local file.
        name: Of what it is a copy, for errors.

    Raises:
        BadInput: The zip is broken, or does not hold exactly one file.
    """
    if path.suffix.lower() != ".zip":
        return path
    try:
        with zipfile.ZipFile(path) as archive:
            # macOS adds a folder of its own to each archive it makes.
            files = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
            if len(files) != 1:
                held = ", ".join(m.filename for m in files[:3]) or "nothing"
                raise BadInput(f"{name}: a zip must hold one file, but this one holds {len(files)} ({held})")
            # The rest of the name inside could lead out of this folder.
            target = path.with_suffix("" if form_by_name(path.name) else _ending(files[0].filename))
            with archive.open(files[0]) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # of no known method; with a password
        raise BadInput(f"{name}: is no zip that can be read ({error})") from None
    path.unlink()
    return target


def unpack_at(spark: SparkSession, uri: str, folder: str) -> str:
    """Unpack a zip on a Hadoop file system into `folder`, and return the URI of the file it held.

    Raises:
        BadInput: See `unpack`.
    """
    with tempfile.TemporaryDirectory(prefix="retune-zip-") as local:
        copy = Path(local) / _file_name(uri)
        source = _path(spark, uri)
        _file_system(spark, source).copyToLocalFile(False, source, _path(spark, str(copy)), True)
        file = unpack(copy, uri)
        return copy_from_local(spark, str(file), f"{folder}/{uuid4().hex}-{file.name}")


def summarize(staged: Sequence[Staged]) -> str:
    """Return in a line what was fetched and what was there already."""
    fetched = [each for each in staged if each.fetched]
    size = sum(each.blob.size or 0 for each in fetched) / 1e6
    return f"{len(fetched)} of {len(staged)} blobs fetched ({size:.1f} MB); the others did not change"


def _move_in(spark: SparkSession, file: Path, folder: str) -> str:
    """Have `folder` hold the file and nothing else, at once; return its URI there."""
    # A store takes names that Hadoop does not, or takes for a glob or for hidden; only the ending matters here.
    name, part = f"blob{_ending(file.name)}", f"{folder}.{uuid4().hex}.part"
    copy_from_local(spark, str(file), f"{part}/{name}")
    source, target = _path(spark, part), _path(spark, folder)
    files = _file_system(spark, target)
    if files.exists(target) or not files.rename(source, target):
        files.delete(source, True)  # another run was faster, with the same version
    return f"{folder}/{name}"


def _file_in(spark: SparkSession, folder: str) -> str | None:
    path = _path(spark, folder)
    files = _file_system(spark, path)
    held = [each for each in files.listStatus(path) if each.isFile()] if files.exists(path) else []
    return f"{folder}/{held[0].getPath().getName()}" if held else None


def _ending(name: str) -> str:
    found = re.search(r"(\.\w+){0,2}$", name)
    return found[0] if found else ""


def _file_name(name: str) -> str:
    return name.split("?")[0].rstrip("/").rsplit("/", 1)[-1]


def _path(spark: SparkSession, uri: str) -> Any:
    return cast(Any, spark._jvm).org.apache.hadoop.fs.Path(uri)


def _file_system(spark: SparkSession, path: Any) -> Any:
    return path.getFileSystem(spark._jsc.hadoopConfiguration())
