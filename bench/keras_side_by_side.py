"""Networks side by side: two at once in Spark tasks, each held to its task's one core, over one after the other."""

from __future__ import annotations

from importlib.util import find_spec

from measure import Figure, Skipped
from place import Place
from stages import prepare_search
from warm import tuning

from retune.trial_runs import TrialRuns

NAME = "keras_side_by_side"
ROUNDS = 3
_TRIALS = 6
_EXPERIMENT = """
name: digits_keras
data: {source: sklearn, dataset: digits, target: target}
problem: multiclass
split: {validation: 0.2, test: 0.2, seed: 42}
model: {trainer: keras, fixed: {layers: 2, units: 128, batch_size: 32, epochs: 30}}
search:
  algorithm: rand
  metric: accuracy
  max_trials: 6
  space:
    learning_rate: {type: loguniform, low: 0.0005, high: 0.005}
    dropout: {type: uniform, low: 0, high: 0.5}
"""


def measure(place: Place, rounds: int) -> Figure:
    """Measure in one warm session: TensorFlow is imported, and both Python workers have fitted before."""
    if find_spec("tensorflow") is None:
        raise Skipped("TensorFlow is not installed; make setup-keras")
    figure = Figure(
        NAME,
        "Trainer `keras`: two trials at once over one, throughput",
        f"A random search of {_TRIALS} networks for scikit-learn's digits in Spark tasks of one core, with "
        "`parallel_trials: 2`, against the same trials one after the other, by turns; the losses of each epoch are "
        "logged live.",
        goal=1.5,
        at_least=True,
    )
    path = place.home / "digits_keras.yaml"
    path.write_text(_EXPERIMENT, encoding="utf-8")
    with tuning(place, prepare_search(place, path)) as held:
        for _ in range(rounds):
            one, two = (held.search(_TRIALS, TrialRuns(held.stage), parallel_trials=n)[1] for n in (1, 2))
            figure.add(one / two, {"one at a time": one, "two at a time": two})
    return figure
