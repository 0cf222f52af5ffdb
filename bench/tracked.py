"""How long a search takes that keeps its trials in MLflow, over one that keeps them in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass

from measure import Figure
from place import Place
from rows import prepare_california
from warm import tuning

from retune.search.trial import Tracker, Trial
from retune.space import Setting
from retune.trial_runs import TrialRuns

NAME = "tracked"
ROUNDS = 5
_TRIALS = 16


@dataclass
class _Stopwatch:
    """A tracker that adds up what another takes to keep results; the next fit waits for these calls only."""

    tracker: Tracker
    seconds: float = 0.0

    def start(self, number: int, setting: Setting) -> str:
        return self.tracker.start(number, setting)

    def end(self, trial: Trial) -> None:
        started = time.perf_counter()
        self.tracker.end(trial)
        self.seconds += time.perf_counter() - started

    def report(self, step: int, progress: dict[str, float]) -> None:
        self.tracker.report(step, progress)


def measure(place: Place, rounds: int) -> Figure:
    """Search with both by turns, the order turned each round, in one warm session."""
    figure = Figure(
        NAME,
        "A tracked search over an untracked one",
        f"A search of {_TRIALS} trials of `california_housing` that writes each to MLflow (SQLite), against the same "
        "search that keeps them in memory; in one warm Spark session, from the first proposal to the last trial's end.",
        goal=1.05,
    )
    with tuning(place, prepare_california(place)) as held:
        for number in range(rounds):
            stopwatch = _Stopwatch(TrialRuns(held.stage))
            order = ("tracked", "untracked") if number % 2 else ("untracked", "tracked")
            times = {side: held.search(_TRIALS, stopwatch if side == "tracked" else None)[1] for side in order}
            parts = {"tracked": times["tracked"], "untracked": times["untracked"]}
            figure.add(
                times["tracked"] / times["untracked"],
                {**parts, "of the tracked: results on their way to MLflow": stopwatch.seconds},
            )
    share = sum(figure.parts["of the tracked: results on their way to MLflow"]) / sum(figure.parts["tracked"])
    figure.remark = (
        f"Timed call by call, which other load moves less: results were on their way to MLflow for {share:.1%} of a "
        "tracked search, and the engine proposed meanwhile."
    )
    return figure
