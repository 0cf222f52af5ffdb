"""Features made ready for a model that takes no missing values and no categories."""

from __future__ import annotations

from collections.abc import Iterable

from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from retune.data.table import Table


def prepare_columns(table: Table) -> ColumnTransformer:
    """Return what fills gaps by the median, standardises numbers and makes indicators of categories; not yet fitted."""
    width, dense = table.features.shape[1], not sparse.issparse(table.features)
    numbers: Iterable[int] = [index for index in range(width) if index not in table.categories]
    # A feature without any value in a fold is left as zeros: the width must not change.
    scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(with_mean=dense))
    steps = [("numbers", scaled, numbers)]
    if table.categories:
        indicators = OneHotEncoder(handle_unknown="ignore")
        if not dense:
            indicators = make_pipeline(FunctionTransformer(sparse.csr_matrix.toarray), indicators)
        steps.append(("categories", indicators, list(table.categories)))
    return ColumnTransformer(steps)
