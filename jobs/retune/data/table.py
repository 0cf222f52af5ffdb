"""Rows for single-machine fits: arrays in files that every Python worker of a machine maps, not copies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

Features: TypeAlias = Any
"""A float64 array of shape (rows, features), or a SciPy CSR matrix of that shape; NaN is missing."""

_FILES = {"dense": ("features",), "sparse": ("data", "indices", "indptr")}


@dataclass(frozen=True)
class Table:
    """Rows that models are fitted to and scored on.

    Attributes:
        features: As `Features` says.
        labels: Of shape (rows,): float64, or for a model of its own the classes as the data spell them.
        parts: Of shape (rows,), int32: the fold that a row is scored in; -1 for a row that is only fitted to.
        categories: Which features are nominal: whole numbers from 0, the last of which is missing or unseen.
    """

    features: Features
    labels: np.ndarray
    parts: np.ndarray
    categories: tuple[int, ...] = ()

    def split(self, fold: int) -> tuple[Table, Table]:
        """Return the rows a fit may see, and those it is scored on."""
        scored = self.parts == fold
        return self._where(~scored), self._where(scored)

    def first(self, count: int) -> Table:
        """Return the first rows."""
        return Table(self.features[:count], self.labels[:count], self.parts[:count], self.categories)

    def _where(self, chosen: np.ndarray) -> Table:
        rows = np.flatnonzero(chosen)
        # A slice is a view of the mapped file, where a list of rows would be a copy of it.
        whole = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
        at: Any = slice(rows[0], rows[-1] + 1) if whole else rows
        return Table(self.features[at], self.labels[at], self.parts[at], self.categories)


def write_table(table: Table, folder: Path, name: str) -> TableFiles:
    """Write a table's arrays to `folder`, as files that begin with `name`."""
    kind = "sparse" if sparse.issparse(table.features) else "dense"
    arrays = {
        "labels": table.labels,
        "parts": table.parts,
        **{file: np.asarray(getattr(table.features, file, table.features)) for file in _FILES[kind]},
    }
    for file, values in arrays.items():
        np.save(folder / f"{name}-{file}.npy", values)
    return TableFiles(name, kind, table.features.shape[1], table.categories, tuple(arrays))


@dataclass(frozen=True)
class TableFiles:
    """Where a table's arrays are, once the files are in one folder."""

    name: str
    kind: str
    width: int
    categories: tuple[int, ...]
    files: tuple[str, ...]

    @property
    def paths(self) -> list[str]:
        """The files' names."""
        return [f"{self.name}-{file}.npy" for file in self.files]


@lru_cache(maxsize=2)
def open_table(files: TableFiles, folder: str) -> Table:
    """Map a table's files; a process that asks again gets the same."""
    arrays = {file: np.load(Path(folder) / f"{files.name}-{file}.npy", mmap_mode="r") for file in files.files}
    if files.kind == "sparse":
        parts = tuple(arrays[file] for file in _FILES["sparse"])
        features = sparse.csr_matrix(parts, shape=(len(arrays["labels"]), files.width), copy=False)
    else:
        features = arrays["features"]
    return Table(features, np.asarray(arrays["labels"]), np.asarray(arrays["parts"]), files.categories)


def pack_features(sizes: np.ndarray, indices: list[Any], values: list[Any]) -> Features:
    """Return Spark's vectors, sparse ones without a name and dense ones mixed, as one array or matrix.

    Args:
        sizes: How many slots a vector has, the same for all; NaN for a dense one.
        indices: Of each vector, where its values stand; None for a dense one.
        values: Of each vector, its values.
    """
    width = next(
        (len(row) if at is None else int(size) for size, at, row in zip(sizes, indices, values, strict=True)), 0
    )
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    flat = np.concatenate(values).astype(np.float64) if len(values) else np.empty(0)
    if lengths.sum() == len(values) * width and all(at is None for at in indices):
        return flat.reshape(len(values), width)
    where = [np.arange(width) if at is None else at for at in indices]
    pointers = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_matrix((flat, np.concatenate(where).astype(np.int32), pointers), shape=(len(values), width))


def stack_features(blocks: list[Features], sparsely: bool) -> Features:
    """Put blocks of rows one below the other, as an array or as a matrix.

    Which one is no matter of memory alone: XGBoost takes a slot that a matrix leaves out for missing, but not a zero.
    So models must be fitted to what they will be given when they score.
    """
    if sparsely:
        return sparse.vstack([sparse.csr_matrix(block) for block in blocks], format="csr")
    return np.vstack([block.toarray() if sparse.issparse(block) else block for block in blocks])
