"""How long a search of distributed fits takes, over native LightGBM that fits the same settings in one process."""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import dataclass
from typing import Any

from measure import Figure
from peers import ask_peer
from place import Place
from rows import prepare
from warm import Tuning, tuning

from retune.handoff import FEATURE_LIST
from retune.placements.objective import train_sample

_TRIALS = 32


@dataclass(frozen=True)
class Native:
    """The figure at one size; see `run.Measurement`.

    Attributes:
        rows: Synthetic ones; None for California Housing.
        title: Of the data.
        goal: The most that the ratio should be.
    """

    NAME: str
    ROUNDS: int
    rows: int | None
    title: str
    goal: float
    trials: int = _TRIALS

    def measure(self, place: Place, rounds: int) -> Figure:
        """Search at random in one warm session, and by turns fit the settings that came up by native LightGBM."""
        figure = Figure(
            self.NAME,
            f"Placement `cluster` over native LightGBM, {self.title}",
            f"A search of {self.trials} trials (random, untracked, `parallel_trials: auto`) in one warm Spark session, "
            "against `lightgbm.LGBMRegressor` fitting the same settings to the same rows in one warm process, one "
            "after the other on all cores; both fit, and score the validation rows and a sample of train rows. Reading "
            "the rows does not count.",
            goal=self.goal,
        )
        ratios: list[float] = []
        with tuning(place, prepare(place, self.rows)) as held:
            for _ in range(rounds):
                result, search_s = held.search(self.trials, algorithm="rand", parallel_trials="auto")
                _, one_s = held.search(self.trials, algorithm="rand")
                told = ask_peer(place, "native_loop.py", _write_task(place, held, [t.setting for t in result.trials]))
                parts = {"retune": search_s, "one at a time": one_s, "native LightGBM": told["loop_s"]}
                figure.add(search_s / told["loop_s"], parts)
                ratios += [
                    trial.metrics["validation_rmse"] / native
                    for trial, native in zip(result.trials, told["validation_rmse"], strict=True)
                ]
            sizes = f"{held.rows.fitted:,} train and {held.rows.count - held.rows.fitted:,} validation rows"
        figure.remark = (
            f"{sizes}. In the last round, one trial at a time took {one_s / told['loop_s']:.2f} times as long as "
            f"native LightGBM. Validation RMSE of retune's fits over native ones, setting by setting: median "
            f"{statistics.median(ratios):.4f}, {min(ratios):.3f} to {max(ratios):.3f}."
        )
        return figure


def _write_task(place: Place, held: Tuning, settings: list[dict[str, Any]]) -> str:
    task = {
        "settings": settings,
        "features": [feature["name"] for feature in held.stage.artifact("featurize", FEATURE_LIST)["features"]],
        "threads": os.cpu_count(),
        "train_sample": train_sample(held.rows.count - held.rows.fitted),
        **{split: held.stage.output("featurize", split) for split in ("train", "validation")},
    }
    path = place.home / "native_task.json"
    path.write_text(json.dumps(task), encoding="utf-8")
    return str(path)


AT_20K = Native("native_20k", 3, None, "California Housing (20,640 rows)", goal=3)
AT_200K = Native("native_200k", 2, 200_000, "200,000 rows", goal=2)
AT_1M = Native("native_1m", 1, 1_000_000, "1,000,000 rows", goal=1.3)
