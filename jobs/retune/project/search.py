"""`main`: the search, in one parent run; every trial is a child run in which `train` is run as a process of its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import mlflow
from mlflow.exceptions import ExecutionException
from mlflow.tracking import MlflowClient

from retune import run_tree
from retune.experiment import Experiment
from retune.experiment_file import parse_value
from retune.handoff import Stage
from retune.metrics import metrics_for
from retune.placements.objective import ROUNDS
from retune.project.asked import build_parser, log_asked, read_asked
from retune.project.rows import read_rows
from retune.search.engine import build_engine
from retune.search.loop import run_search
from retune.search.plan import Result
from retune.search.planning import build_plan
from retune.search.trial import Attempt, Objective, TrialFailed
from retune.space import Setting, flatten
from retune.tracking import connect
from retune.trainers import load_trainer
from retune.trial_runs import SETTING, TrialRuns

log = logging.getLogger(__name__)
_PROJECT = Path(__file__).resolve().parents[3]
_SEARCH = "search"  # the parent's stage, so that no stage of a pipeline takes it for its own


def run(argv: Sequence[str]) -> None:
    """Search as the arguments say.

    Raises:
        BadInput: What is asked for is wrong.
        RetuneError: The search found nothing.
    """
    parser = build_parser("main", "Search for the best network, one child run a setting.")
    parser.add_argument("--max_runs", type=parse_value, help="settings in all")
    parser.add_argument("--epochs", type=parse_value, help="of each fit, at most")
    parser.add_argument("--metric", default="", help="what is optimised, on the validation rows")
    parser.add_argument("--algo", default="", help="of Hyperopt: tpe, rand or anneal")
    args = parser.parse_args(argv)
    changes = {"search.max_trials": args.max_runs, "search.metric": args.metric, "model.fixed.epochs": args.epochs}
    if args.algo:
        of_file = read_asked(args, changes).search
        same = (of_file.engine, of_file.algorithm_name) == ("hyperopt", args.algo)
        own = of_file.algorithm_settings if same else {}
        changes |= {"search.engine": "hyperopt", "search.algorithm": args.algo, "search.algorithm_settings": own}
    experiment = read_asked(args, changes)
    trainer = load_trainer(experiment.model.trainer)
    trainer.require_installed()
    trainer.check(experiment)
    read_rows(experiment)  # or every child would find out for itself what is wrong with the data
    child = {name: getattr(args, name) for name in ("data", "target", "problem") if getattr(args, name)}
    search(connect(), experiment, {"experiment": str(Path(args.experiment).resolve()), **child})


def search(client: MlflowClient, experiment: Experiment, child: Mapping[str, str]) -> Result:
    """Run the search in the active run, or a new one: it gets `best_run`, `best_params`, and the best run's metrics.

    Args:
        client: The MLflow client.
        experiment: What is searched, and how.
        child: Parameters of the entry point `train` beside the network's.
    """
    with mlflow.start_run() as active:
        log_asked(active.info.run_id, experiment, {"metric": experiment.search.metric})
        stage = _open(client, active.info.run_id, experiment)
        tracker = TrialRuns(stage, shared=True)
        plan = build_plan(experiment.search, experiment.points_to_evaluate, parallel=1)
        try:
            result = run_search(build_engine(experiment.search), _objective(stage, child), tracker, plan)
        except BaseException:
            tracker.kill_unfinished()  # the child at work, where a person ends the search
            raise
        tracker.mark_best(result.best)
        mlflow.set_tags({"best_run": result.best.run_id, "best_params": json.dumps(flatten(result.best.setting))})
        mlflow.log_metrics(result.best.metrics)
        for run in run_tree.children(client, stage.run, "trial"):
            log.info("%s  %s  run %s  %s", run.info.run_name, run.info.status, run.info.run_id, run.data.tags[SETTING])
        log.info("best: trial %d, run %s", result.best.number, result.best.run_id)
    return result


def _open(client: MlflowClient, run_id: str, experiment: Experiment) -> Stage:
    """Give a run the tags by which the tracker knows a search."""
    made = f"project-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%f}"
    for tag, value in ((run_tree.STAGE, _SEARCH), (run_tree.DAG_RUN, made), (run_tree.ATTEMPT, "1")):
        client.set_tag(run_id, tag, value)
    return Stage(client, _SEARCH, client.get_run(run_id), 1, experiment)


def _objective(stage: Stage, child: Mapping[str, str]) -> Objective:
    """Return what tries a setting by running `train` in the trial's run."""
    experiment = stage.experiment
    names = metrics_for(experiment.problem)
    measures = {ROUNDS, *(f"{split}_{name}" for split in ("train", "validation") for name in names)}

    def train(setting: Setting, attempt: Attempt) -> dict[str, float]:
        run_id = attempt.run_id.result()
        given = {**experiment.model.fixed, **flatten(setting)}
        parameters = {name: _spell(value) for name, value in given.items() if value is not None}
        try:
            mlflow.projects.run(
                str(_PROJECT),
                "train",
                parameters={**child, **parameters},
                experiment_id=stage.experiment_id,
                run_id=run_id,
                env_manager="local",
            )
        except ExecutionException as error:
            raise TrialFailed(stage.client.get_run(run_id).data.tags.get(run_tree.ERROR, str(error))) from error
        logged = stage.client.get_run(run_id).data.metrics
        return {name: value for name, value in logged.items() if name in measures}

    return train


def _spell(value: object) -> str:
    """Return a value as `train` reads it back; text is left as it is where it cannot be taken for anything else."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text and parse_value(text) == value else json.dumps(value)
