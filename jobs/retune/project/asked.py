"""What the entry points `train` and `main` are asked: an experiment file, and what of it is to be otherwise."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import get_args

import mlflow

from retune.data_section import FileData, SklearnDataset
from retune.errors import BadInput
from retune.experiment import Experiment
from retune.experiment_file import change_experiment, read_experiment
from retune.features_section import TabularFeatures
from retune.search_section import Holdout
from retune.settings import without_password


def build_parser(entry_point: str, description: str) -> argparse.ArgumentParser:
    """Return a parser of what both take; an argument left empty leaves what the experiment file says."""
    parser = argparse.ArgumentParser(prog=entry_point, description=description, allow_abbrev=False)
    parser.add_argument("--experiment", required=True, metavar="FILE", help="the experiment file, of trainer keras")
    parser.add_argument("--data", default="", help="a data set of scikit-learn, or a CSV, JSON lines or Parquet file")
    parser.add_argument("--target", default="", help="the column to predict")
    parser.add_argument("--problem", default="", help="regression, binary or multiclass")
    return parser


def read_asked(args: argparse.Namespace, changes: Mapping[str, object] | None = None) -> Experiment:
    """Return the experiment as it is asked for.

    Args:
        args: As `build_parser` has them.
        changes: Further ones, by the path of the field; None and empty text change nothing.

    Raises:
        BadInput: The file or the result breaks a rule, or wants what is for the pipeline only.
    """
    experiment = read_experiment(args.experiment)
    data = experiment.data.model_dump() | ({"target": args.target} if args.target else {})
    if args.data:
        known = args.data in get_args(SklearnDataset)
        where = {"source": "sklearn", "dataset": args.data} if known else {"source": "file", "path": args.data}
        data = where | {"target": data["target"]}
    wanted = {"problem": args.problem, **(changes or {})}
    given = {path: value for path, value in wanted.items() if value not in (None, "")}
    asked = change_experiment(experiment, {"data": data, **given})
    _require_simple(asked)
    return asked


def log_asked(run_id: str, experiment: Experiment, more: Mapping[str, object]) -> None:
    """Log what a run of `train` or `main` is about as its parameters.

    `mlflow run` has logged those that it was given, as they were written, and a parameter cannot be changed.
    """
    data = experiment.data
    about = {"data": without_password(data.where), "target": data.target, "problem": experiment.problem, **more}
    known = mlflow.get_run(run_id).data.params
    mlflow.log_params({name: value for name, value in about.items() if name not in known})


def _require_simple(experiment: Experiment) -> None:
    search, data, features = experiment.search, experiment.data, experiment.features
    rules: list[tuple[bool, str, object, str]] = [
        (experiment.model.trainer != "keras", "model.trainer", experiment.model.trainer, "use keras"),
        (data.source not in ("sklearn", "file"), "data.source", data.source, "give a file by data"),
        (isinstance(data, FileData) and data.path is None, "data.tables", "given", "give a file by data"),
        (isinstance(data, FileData) and bool(data.types), "data.types", "given", "prepare it in the data"),
        (search.objective is not None, "search.objective", search.objective, "leave it out"),
        (not isinstance(search.validation, Holdout), "search.validation", search.validation.type, "use holdout"),
        (search.runner != "retune", "search.runner", search.runner, "leave it out"),
        (search.trial_timeout is not None, "search.trial_timeout", search.trial_timeout, "leave it out"),
        (search.warm_start is not None, "search.warm_start", "given", "leave it out"),
        (search.points_to_evaluate == "champion", "search.points_to_evaluate", "champion", "give settings"),
        (search.autolog, "search.autolog", True, "leave it out: train always does"),
        (search.log_models != "best", "search.log_models", search.log_models, "leave it out"),
        (search.parallel_trials not in (None, 1), "search.parallel_trials", search.parallel_trials, "leave it out"),
        (bool(search.constraints), "search.constraints", search.constraints, "leave them out"),
        (features.pipeline != "tabular", "features.pipeline", features.pipeline, "use tabular"),
        (isinstance(features, TabularFeatures) and bool(features.cast), "features.cast", "given", "prepare the data"),
    ]
    for broken, field, value, way_out in rules:
        if broken:
            raise BadInput(f"{field} = {value!r}: is for the pipeline, not for train and main; {way_out}")
