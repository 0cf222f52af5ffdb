"""A table as users have them: text, missing values, odd names, a 3-class text target; and its experiment file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

EXPERIMENT = """\
name: flights
description: How late a flight arrives
data: {source: file, path: flights.csv, target: arrival}
problem: multiclass
split: {validation: 0.2, test: 0.2, seed: 1}
features: {drop: [flight no.]}
model:
  trainer: synapseml_lightgbm
  fixed: {minDataInLeaf: 5}
  untuned: {numIterations: 3, numLeaves: 4}
search:
  metric: accuracy
  max_trials: 4
  seed: 3
  space:
    numIterations: {type: quniform, low: 5, high: 25, q: 5}
    numLeaves: {type: uniformint, low: 3, high: 15}
    booster:
      type: choice
      options:
        - {boostingType: gbdt}
        - {boostingType: goss, topRate: {type: uniform, low: 0.1, high: 0.4}}
airflow: {retries: 1, retry_delay: 1s}
"""


def write_flights(folder: Path, rows: int = 600) -> Path:
    """Write `flights.csv` and `flights.yaml`; the arrival follows from distance, carrier and rain, with some noise."""
    rng = np.random.default_rng(0)
    carrier = rng.choice(["Zürich Air", "B. & B.", "O'Hare"], rows)
    distance = rng.uniform(100, 3000, rows)
    rain = rng.random(rows) < 0.4
    delay = distance / 1000 + 2 * (carrier == "B. & B.") + 1.5 * rain + rng.normal(0, 0.3, rows)
    table = pd.DataFrame(
        {
            "flight no.": [f"F{n}" for n in range(rows)],
            "carrier": pd.Series(carrier, dtype=object),
            "dist.km": distance.round(1),
            "rain": rain,
            "stops": rng.integers(0, 3, rows),
            "arrival": pd.cut(delay, [-9, 1.5, 3, 99], labels=["early", "on time", "late"]).astype(object),
        }
    )
    table.loc[::9, "carrier"] = None
    table.loc[::7, "dist.km"] = None
    table.loc[::100, "arrival"] = None
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "flights.csv", index=False)
    (folder / "flights.yaml").write_text(EXPERIMENT)
    return folder / "flights.yaml"
