"""How long an engine takes to propose a setting, over what it may take, and how much of a search that is."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import yaml
from measure import Figure
from place import ROOT, Place
from rows import require_california
from stages import prepare_search, run_stage

NAME = "suggestion"
ROUNDS = 3
_TRIALS = 200
_ALLOWED_MS = 100
_FITTED = 20  # of them, for what a trial takes: as many as tpe draws at random first
_ENGINES = ("hyperopt", "optuna")
_SPACE = {
    "boostingType": {"type": "choice", "options": ["gbdt", "goss", "dart"]},
    "learningRate": {"type": "loguniform", "low": 0.005, "high": 1},
    "numLeaves": {"type": "uniformint", "low": 4, "high": 128},
    "numIterations": {"type": "quniform", "low": 10, "high": 500, "q": 10},
    "minDataInLeaf": {"type": "uniformint", "low": 1, "high": 100},
    "maxDepth": {"type": "uniformint", "low": 2, "high": 12},
    "maxBin": {"type": "quniform", "low": 15, "high": 255, "q": 16},
    "baggingFraction": {"type": "uniform", "low": 0.3, "high": 1},
    "featureFraction": {"type": "uniform", "low": 0.3, "high": 1},
    "lambdaL1": {"type": "loguniform", "low": 1e-6, "high": 10},
    "lambdaL2": {"type": "loguniform", "low": 1e-6, "high": 10},
    "minGainToSplit": {"type": "uniform", "low": 0, "high": 1},
}


@dataclass
class _Times:
    """Milliseconds of one search's proposals, and of those and the telling of losses together."""

    proposals: list[float]
    total: float

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.proposals, n=20)[-1]


def measure(place: Place, rounds: int) -> Figure:
    """Time both engines through searches whose trials cost nothing, then set that against the trials of a real one."""
    figure = Figure(
        NAME,
        "A proposal, over 100 ms",
        f"The 95th percentile of the time that `propose` of engine hyperopt (tpe) takes, over {_TRIALS} trials of "
        f"{len(_SPACE)} parameters, against the {_ALLOWED_MS} ms that it may take: no ratio of two measurements, so it "
        "is this machine's alone. Optuna's tpe for comparison.",
        goal=1,
        unit="ms",
    )
    trial_ms = _time_trial(place)
    for number in range(rounds):
        times = {engine: _time_engine(engine, seed=number) for engine in _ENGINES}
        parts = {"a trial of SynapseML, fitted and scored": trial_ms}
        for engine, each in times.items():
            parts |= {
                f"{engine} tpe, 95th percentile": each.p95,
                f"{engine} tpe, median": statistics.median(each.proposals),
                f"{engine} tpe, longest": max(each.proposals),
                f"{engine} tpe, a trial's proposal and telling": each.total / _TRIALS,
            }
        figure.add(times["hyperopt"].p95 / _ALLOWED_MS, parts)
    shares = {engine: _share(figure, engine, trial_ms) for engine in _ENGINES}
    figure.remark = (
        f"A search of that space by SynapseML on California Housing took {trial_ms / 1000:.2f} s a trial, as the mean "
        f"of {_FITTED}. Of {_TRIALS} such trials "
        + " and ".join(f"{engine} would take {share:.1%}" for engine, share in shares.items())
        + "."
    )
    return figure


def _share(figure: Figure, engine: str, trial_ms: float) -> float:
    own_ms = statistics.median(figure.parts[f"{engine} tpe, a trial's proposal and telling"])
    return own_ms / (own_ms + trial_ms)


def _time_engine(engine: str, seed: int) -> _Times:
    from retune.search.engine import build_engine
    from retune.search_section import Search

    search = Search.model_validate(
        {"engine": engine, "metric": "rmse", "max_trials": _TRIALS, "seed": seed, "space": _SPACE}
    )
    built = build_engine(search)
    proposals: list[float] = []
    started = time.perf_counter()
    for number in range(_TRIALS):
        before = time.perf_counter()
        setting = built.propose(number)
        proposals.append((time.perf_counter() - before) * 1000)
        built.tell(number, setting, _loss(setting))
    return _Times(proposals, (time.perf_counter() - started) * 1000)


def _loss(setting: Mapping[str, float]) -> float:
    """Return something that has a best place, so that the engine narrows down on it."""
    return (
        math.log(setting["learningRate"] / 0.05) ** 2
        + (setting["numLeaves"] / 128 - 0.3) ** 2
        + (setting["baggingFraction"] - 0.8) ** 2
        + (setting["boostingType"] != "gbdt")
    )


def _time_trial(place: Place) -> float:
    """Return the milliseconds of the mean trial of a real search of the same space, as its runs in MLflow have them."""
    from mlflow.tracking import MlflowClient

    require_california()
    fields = yaml.safe_load((ROOT / "experiments" / "california_housing.yaml").read_text())
    fields["model"] = {"trainer": "synapseml_lightgbm"}
    fields["search"] = {"metric": "rmse", "max_trials": _FITTED, "seed": 42, "space": _SPACE}
    path = place.home / "suggestion" / "california_housing.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(fields))
    tune = run_stage(place, "tune", "--upstream-run-id", prepare_search(place, path))
    client = MlflowClient(place.tracking_uri)
    mlflow_experiment = client.get_run(tune).info.experiment_id
    trials = client.search_runs([mlflow_experiment], f"tags.`mlflow.parentRunId` = '{tune}'", max_results=1000)
    return statistics.fmean(trial.data.metrics["duration_s"] for trial in trials) * 1000
