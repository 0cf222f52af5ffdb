"""Scoring on Spark: the metrics of predictions, from one pass over the rows where that can be.

Rows carry `retune_label` and `retune_prediction` (double) and, for classes, `retune_probability` (vector).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from retune.data.splits import LABEL, SPLIT
from retune.metrics import Problem
from retune.trainers.base import PREDICTION, PROBABILITY

_LEAST_PROBABILITY = sys.float_info.epsilon  # as scikit-learn's log_loss clips


def score_splits(
    scored: DataFrame, problem: Problem, classes: int, metric: str, counts: dict[str, int] | None = None
) -> dict[str, float]:
    """Score each split of one frame, from one aggregation; `auc` takes one more for each split and class.

    Metrics are rounded to 12 digits: sums of parts hang, in the last few, on which part is done first.

    Args:
        scored: With the columns above and `retune_split`.
        problem: What kind of predictions.
        classes: How many classes; 0 for regression.
        metric: The search metric; `auc` needs sorting, so it is computed only when asked for.
        counts: Is given how many rows each split has.

    Returns:
        `<split>_<metric>` for each split in the frame and each metric of the problem.
    """
    if problem == "regression":
        groups = scored.groupBy(SPLIT).agg(*_regression_sums()).collect()
        per_split = {row[SPLIT]: _regression_metrics(row.asDict()) for row in groups}
        sizes = {row[SPLIT]: row["rows"] for row in groups}
    else:
        with _predicted_once(scored) if metric == "auc" else nullcontext(scored) as rows:
            cells = _confusion(rows, SPLIT)
            per_split = {name: classification_metrics(cells[name], classes) for name in cells}
            sizes = {name: sum(cell["rows"] for cell in cells[name]) for name in cells}
            if metric == "auc":
                for name in per_split:
                    there = {cell["label"] for cell in cells[name]}
                    # Without rows of a class there is no such area; Spark's own would be 0.
                    whole = len(there) == classes
                    per_split[name]["auc"] = _auc(rows.where(F.col(SPLIT) == name), classes) if whole else math.nan
    if counts is not None:
        counts |= sizes
    return {
        f"{split}_{name}": float(f"{value:.12g}")
        for split, metrics in per_split.items()
        for name, value in metrics.items()
    }


def score_test(scored: DataFrame, problem: Problem, classes: int) -> dict[str, float]:
    """Return every metric of the problem over all rows of `scored`.

    SynapseML's `ComputeModelStatistics` gives what it has: for regression all, for classes accuracy, and for binary
    problems AUC too.
    """
    from synapse.ml.train import ComputeModelStatistics

    kind = "regression" if problem == "regression" else "classification"
    scores = PREDICTION if problem == "regression" else PROBABILITY
    statistics = ComputeModelStatistics(
        evaluationMetric=kind, labelCol=LABEL, scoresCol=scores, scoredLabelsCol=PREDICTION
    )
    row = statistics.transform(scored).first()
    assert row is not None
    if problem == "regression":
        return {
            "mse": row["mean_squared_error"],
            "rmse": row["root_mean_squared_error"],
            "r2": row["R^2"],
            "mae": row["mean_absolute_error"],
        }
    ours = classification_metrics(_confusion(scored.withColumn(SPLIT, F.lit("test")), SPLIT)["test"], classes)
    auc = row["AUC"] if problem == "binary" else _auc(scored, classes)
    return {**ours, "accuracy": row["accuracy"], "auc": auc}


def classification_metrics(cells: Iterable[Mapping[str, Any]], classes: int) -> dict[str, float]:
    """Compute accuracy, F1 and log loss from a confusion matrix in cells.

    Args:
        cells: One a pair of `label` and `prediction`, with `rows` and `log_loss` (summed).
        classes: How many classes. Two: F1 is that of class 1. More: the mean over classes (macro), where a class
            that is neither there nor predicted counts as 0.
    """
    pairs = list(cells)
    total = sum(cell["rows"] for cell in pairs)
    hits = {c: sum(x["rows"] for x in pairs if x["label"] == x["prediction"] == c) for c in range(classes)}
    both = {c: sum(x["rows"] for x in pairs if x["label"] == c) + sum(x["rows"] for x in pairs if x["prediction"] == c)
            for c in range(classes)}  # fmt: skip
    f1 = [2 * hits[c] / both[c] if both[c] else 0.0 for c in range(classes)]
    return {
        "accuracy": sum(hits.values()) / total,
        "f1": f1[1] if classes == 2 else math.fsum(f1) / classes,
        "log_loss": math.fsum(cell["log_loss"] for cell in pairs) / total,
    }


@contextmanager
def _predicted_once(scored: DataFrame) -> Iterator[DataFrame]:
    """Hold predictions while several aggregations read them: each would predict anew."""
    held = scored.select(SPLIT, LABEL, PREDICTION, PROBABILITY).persist()
    try:
        yield held
    finally:
        held.unpersist()


def _confusion(scored: DataFrame, split: str) -> dict[str, list[dict[str, Any]]]:
    probability = F.get(vector_to_array(PROBABILITY), F.col(LABEL).cast("int"))
    log_loss = -F.log(F.greatest(probability, F.lit(_LEAST_PROBABILITY)))
    groups = scored.groupBy(split, LABEL, PREDICTION).agg(F.count("*").alias("rows"), F.sum(log_loss).alias("log_loss"))
    cells: dict[str, list[dict[str, Any]]] = {}
    for row in groups.collect():
        cell = {
            "label": int(row[LABEL]),
            "prediction": int(row[PREDICTION]),
            "rows": row["rows"],
            "log_loss": row["log_loss"],
        }
        cells.setdefault(row[split], []).append(cell)
    return cells


def _regression_sums() -> list[Any]:
    label, error = F.col(LABEL), F.col(LABEL) - F.col(PREDICTION)
    return [
        F.count("*").alias("rows"),
        F.avg(error * error).alias("mse"),
        F.avg(F.abs(error)).alias("mae"),
        F.var_pop(label).alias("variance"),
    ]


def _regression_metrics(sums: Mapping[str, Any]) -> dict[str, float]:
    mse, variance = float(sums["mse"]), float(sums["variance"])
    return {
        "mse": mse,
        "rmse": math.sqrt(mse),
        "mae": float(sums["mae"]),
        "r2": 1 - mse / variance if variance else math.nan,
    }


def _auc(scored: DataFrame, classes: int) -> float:
    """Return the exact area under the ROC curve; for more than two classes the mean of one-vs-rest areas."""
    scores = vector_to_array(PROBABILITY)
    evaluator = BinaryClassificationEvaluator(rawPredictionCol="score", labelCol="is_class", numBins=0)
    one_vs_rest = [
        evaluator.evaluate(
            scored.select(F.get(scores, F.lit(c)).alias("score"), (F.col(LABEL) == c).cast("double").alias("is_class"))
        )
        for c in ([1] if classes == 2 else range(classes))
    ]
    return math.fsum(one_vs_rest) / len(one_vs_rest)
