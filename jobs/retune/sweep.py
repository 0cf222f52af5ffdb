"""Every setting of a cross-validated search with its scores, as scikit-learn tells them: as text and as a table."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from retune.metrics import Metric, Problem
from retune.search.trial import Trial
from retune.space import Parameters, flatten

_SCORERS = {
    "r2": "r2",
    "rmse": "neg_root_mean_squared_error",
    "mse": "neg_mean_squared_error",
    "mae": "neg_mean_absolute_error",
    "accuracy": "accuracy",
    "f1": "f1",
    "auc": "roc_auc",
    "log_loss": "neg_log_loss",
}
_OF_MANY_CLASSES = {"f1": "f1_macro", "auc": "roc_auc_ovr"}


@dataclass(frozen=True)
class Score:
    """What one setting scored.

    Attributes:
        trial: Its number.
        parameters: All of the setting's, sorted by name.
        folds: The score of each fold, higher is better; empty where the trial failed or was pruned.
        fit_s: Seconds of a fold's fit, the mean.
        note: Why the trial failed, or cannot be the best; empty where neither.
    """

    trial: int
    parameters: Parameters
    folds: list[float]
    fit_s: float | None
    note: str

    @property
    def mean(self) -> float:
        """The mean over folds; NaN where there are none."""
        return statistics.fmean(self.folds) if self.folds else math.nan

    @property
    def std(self) -> float:
        """The deviation over folds, of a population, as `std_test_score` of `GridSearchCV` is."""
        return statistics.pstdev(self.folds) if self.folds else math.nan

    @property
    def text(self) -> str:
        """One line, as the `grid_scores_` of older versions of scikit-learn were printed."""
        scored = f"mean: {self.mean:.5f}, std: {self.std:.5f}, params: {self.parameters}"
        return f"{scored}, {self.note}" if self.note else scored


def scorer_name(metric: Metric, problem: Problem) -> str:
    """Return scikit-learn's name of the scorer that is this metric, higher better."""
    return (_OF_MANY_CLASSES if problem == "multiclass" else {}).get(metric.name) or _SCORERS[metric.name]


def score_settings(trials: Sequence[Trial], metric: Metric, folds: int) -> list[Score]:
    """Return what the settings of a cross-validated search scored, in the order of the trials."""
    return [_score(trial, metric, folds) for trial in trials]


def _score(trial: Trial, metric: Metric, folds: int) -> Score:
    names = [f"fold_{fold}_validation_{metric.name}" for fold in range(folds)]
    whole = trial.error is None and all(name in trial.metrics for name in names)
    reason = f"failed: {trial.error}" if trial.error is not None else trial.kept_out or ""
    return Score(
        trial.number,
        dict(sorted(flatten(trial.setting).items())),
        [-metric.loss(trial.metrics[name]) for name in names] if whole else [],
        trial.metrics.get("fit_s"),
        " ".join(reason.partition("\n")[0][:300].split()),
    )


def write_text(scores: Sequence[Score], scorer: str) -> str:
    """Return the sweep as text: the metric, then a line a setting."""
    return "\n".join([f"metric =  {scorer}", *(score.text for score in scores), ""])


def write_csv(scores: Sequence[Score], folds: int) -> str:
    """Return the sweep as a table: a row a setting, empty where there is no value."""
    parameters = sorted({name for score in scores for name in score.parameters})
    split = [f"fold_{fold}" for fold in range(folds)]
    table = io.StringIO()
    rows = csv.DictWriter(
        table,
        ["trial", "mean", "std", *split, *(f"param_{name}" for name in parameters), "fit_s", "note"],
        lineterminator="\n",
    )
    rows.writeheader()
    for score in scores:
        measured = {"mean": score.mean, "std": score.std, **dict(zip(split, score.folds, strict=False))}
        given = {f"param_{name}": value for name, value in score.parameters.items()}
        row = {"trial": score.trial, "fit_s": score.fit_s, "note": score.note}
        rows.writerow({**row, **given, **(measured if score.folds else {})})
    return table.getvalue()


def name_settings(scores: Sequence[Score]) -> list[str]:
    """Return of each setting, as text, the parameters that are not the same in all."""
    names = {name for score in scores for name in score.parameters}
    varied = sorted(name for name in names if len({repr(score.parameters.get(name)) for score in scores}) > 1)
    return [
        ", ".join(f"{name} {score.parameters[name]}" for name in varied if name in score.parameters) for score in scores
    ]
