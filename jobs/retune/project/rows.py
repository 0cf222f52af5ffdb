"""Rows for `train`, read by pandas: raw ones become the features that a fit and the whole model take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from sklearn import datasets
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import train_test_split

from retune.data.files import MISSING
from retune.data.table import Table
from retune.data_section import FileData, SklearnData, form_by_name
from retune.errors import BadInput
from retune.experiment import Experiment
from retune.features.base import Feature
from retune.features_section import TabularFeatures
from retune.placements.task_model import raw_features


@dataclass(frozen=True)
class Rows:
    """What one fit needs.

    Attributes:
        train: Rows to fit to; classes are 0, 1, ….
        validation: Rows to score on.
        classes: As the data spell them, in order; empty for regression.
        features: Makes of raw rows what the tables have.
        example: Some raw rows.
    """

    train: Table
    validation: Table
    classes: list[Any]
    features: ColumnTransformer
    example: pd.DataFrame


def read_rows(experiment: Experiment) -> Rows:
    """Read an experiment's data and set the validation part aside: `split.validation` of all, drawn by `split.seed`.

    Raises:
        BadInput: The data cannot be read, or lack the target, or are no rows for the problem.
    """
    frame, target = _read(experiment), experiment.data.target
    if target not in frame:
        raise BadInput(f"data.target = {target!r}: the data have no such column; they have {', '.join(frame.columns)}")
    frame = frame[frame[target].notna()]
    labels, classes = _labels_of(frame[target], experiment)
    raw = frame[_columns_of(frame, experiment)]
    try:
        split = train_test_split(
            raw,
            labels,
            test_size=experiment.split.validation,
            random_state=experiment.split.seed % 2**32,
            stratify=labels if classes else None,
        )
    except ValueError as error:  # too few rows, in all or of a class
        raise BadInput(f"data: cannot be split into train and validation rows: {error}") from error
    train, validation, train_labels, validation_labels = split
    features = _features_of(train)
    # Categories come as numbers: the last of them is for values that the train rows have not.
    nominal = tuple(index for index, name in enumerate(raw.columns) if not _is_number(raw[name]))

    def table(rows: pd.DataFrame, labels: np.ndarray) -> Table:
        made = np.asarray(features.transform(rows), dtype=np.float64)
        return Table(made, labels, np.zeros(len(labels), np.int32), nominal)

    return Rows(table(train, train_labels), table(validation, validation_labels), classes, features, validation.head())


def _read(experiment: Experiment) -> pd.DataFrame:
    data = experiment.data
    try:
        if isinstance(data, SklearnData):
            fetch = "fetch_california_housing" if data.dataset == "california_housing" else f"load_{data.dataset}"
            return getattr(datasets, fetch)(as_frame=True).frame
        assert isinstance(data, FileData)  # or it would have been refused
        path = str(data.path)
        kind = data.format or form_by_name(path) or ("parquet" if Path(path).is_dir() else None)
        if kind is None:
            raise BadInput(f"data = {path}: its ending tells no form; name it .csv, .jsonl or .parquet")
        if kind == "csv":
            return pd.read_csv(path, na_values=list(MISSING), skipinitialspace=True)
        return pd.read_parquet(path) if kind == "parquet" else pd.read_json(path, lines=True)
    except (OSError, ValueError) as error:
        raise BadInput(f"data: cannot be read: {error}") from error


def _labels_of(target: pd.Series, experiment: Experiment) -> tuple[np.ndarray, list[Any]]:
    if experiment.problem == "regression":
        if not is_numeric_dtype(target):
            raise BadInput(f"data.target = {target.name!r}: is no number, as problem regression needs")
        return target.to_numpy(np.float64), []
    classes = sorted(target.unique().tolist())
    count = len(classes)
    if count < 2 or (experiment.problem == "binary") != (count == 2):
        raise BadInput(f"data.target = {target.name!r}: has {count} classes, which is not {experiment.problem}")
    return np.searchsorted(classes, target.to_numpy()).astype(np.float64), classes


def _columns_of(frame: pd.DataFrame, experiment: Experiment) -> list[str]:
    """Return the columns that are features: numbers, booleans, and text of not too many values, as featurize has it."""
    asked, target = experiment.features, experiment.data.target
    assert isinstance(asked, TabularFeatures)  # or it would have been refused
    for name in [*(asked.columns or []), *asked.drop]:
        if name not in frame:
            raise BadInput(f"features: the data have no column {name!r}; they have {', '.join(frame.columns)}")
    names = asked.columns or [name for name in frame.columns if name != target and name not in asked.drop]
    kept = [
        n for n in names if _is_number(frame[n]) or (_is_text(frame[n]) and frame[n].nunique() <= asked.max_categories)
    ]
    if not kept:
        raise BadInput("features: no column is left that a model can take")
    return kept


def _features_of(train: pd.DataFrame) -> ColumnTransformer:
    def feature(name: str) -> Feature:
        if _is_number(train[name]):
            return Feature(name, "number", "double")
        return Feature(name, "category", "string", sorted(train[name].dropna().unique()))

    return raw_features([feature(name) for name in train.columns])


def _is_number(column: pd.Series) -> bool:
    return bool(is_numeric_dtype(column) or is_bool_dtype(column))


def _is_text(column: pd.Series) -> bool:
    return bool(pd.api.types.is_string_dtype(column.dropna()))
