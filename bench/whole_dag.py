"""How long a whole DAG run takes, over what cannot be spared: five Spark jobs that do nothing, and the search."""

from __future__ import annotations

from datetime import UTC, datetime

from measure import BenchError, Figure, time_process
from place import BENCH_DAGS, Place

NAME = "whole_dag"
ROUNDS = 3
_EXPERIMENT = "diabetes"
_STAGES = ("ingest", "featurize", "tune", "retrain", "evaluate")


def measure(place: Place, rounds: int) -> Figure:
    """Time whole DAG runs by `airflow dags test`, retune's and the no-op one by turns."""
    figure = Figure(
        NAME,
        "The whole DAG over its parts",
        f"One DAG run of `{_EXPERIMENT}`, against a DAG run of five jobs that import MLflow and PySpark, start the "
        "same Spark session and end, plus the search itself, from the first proposal to the last trial's end. Both by "
        "`airflow dags test`.",
        goal=1.5,
    )
    noop_env = {**place.env, "AIRFLOW__CORE__DAGS_FOLDER": str(BENCH_DAGS)}
    for _ in range(rounds):
        began = datetime.now(UTC)
        retune = time_process(["airflow", "dags", "test", f"retune_{_EXPERIMENT}"], place.env)
        noop = time_process(["airflow", "dags", "test", "bench_noop_jobs"], noop_env)
        stages_s, search_s = _look_up(place.tracking_uri, began)
        figure.add(
            retune.wall_s / (noop.wall_s + search_s),
            {
                "whole DAG run": retune.wall_s,
                "five no-op jobs": noop.wall_s,
                "the search": search_s,
                **{f"of the run: {stage}": seconds for stage, seconds in stages_s.items()},
                "whole DAG run, CPU": retune.cpu_s,
                "five no-op jobs, CPU": noop.cpu_s,
            },
        )
    return figure


def _look_up(tracking_uri: str, began: datetime) -> tuple[dict[str, float], float]:
    """Return the seconds from each stage's lease to its end, and those of the search, of the run since `began`."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(f"retune/{_EXPERIMENT}")
    since = f"attributes.start_time >= {int(began.timestamp() * 1000)}"
    runs = client.search_runs([experiment.experiment_id], since, max_results=1000) if experiment else []
    by_stage = {run.data.tags["retune.stage"]: run.info for run in runs}
    if "tune" not in by_stage or any(run.info.status != "FINISHED" for run in runs):
        raise BenchError(f"the DAG run of {_EXPERIMENT} left runs unfinished, or no search")
    stages_s = {stage: (by_stage[stage].end_time - by_stage[stage].start_time) / 1000 for stage in _STAGES}
    return stages_s, next(run.data.metrics["search_s"] for run in runs if "search_s" in run.data.metrics)
