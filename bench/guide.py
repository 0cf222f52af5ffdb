"""How long the loop of SynapseML's guide takes, over retune's search: the same space, rows and number of trials."""

from __future__ import annotations

from measure import Figure, ask_process
from place import ROOT, Place
from rows import CALIFORNIA_TRIALS, prepare_california
from stages import as_arguments, lease_tune, run_stage

NAME = "guide"
ROUNDS = 2


def measure(place: Place, rounds: int) -> Figure:
    """Run the tune job and the guide's loop by turns, each by spark-submit."""
    from mlflow.tracking import MlflowClient

    figure = Figure(
        NAME,
        "The guide's loop over a tracked search",
        f"Hyperopt's `fmin` over {CALIFORNIA_TRIALS} fits of `LightGBMRegressor` under "
        "`mlflow.pyspark.ml.autolog()`, which logs a model a trial, as SynapseML's guide has it, against the "
        f"{CALIFORNIA_TRIALS} tracked trials of the tune job of "
        "`california_housing`: the same space, train and validation rows. Each is a fresh spark-submit, of which the "
        "search alone counts, from the first proposal to the last trial's end. Autologging's share can be told from "
        "the same loop without it.",
        goal=15,
        at_least=True,
    )
    featurized = prepare_california(place)
    client = MlflowClient(place.tracking_uri)
    outputs = client.get_run(featurized).data.tags
    rows = [outputs[f"retune.output.{split}"] for split in ("train", "validation")]
    loop = [
        "spark-submit",
        "--master",
        "local[*]",
        str(ROOT / "bench" / "guide_loop.py"),
        *rows,
        str(CALIFORNIA_TRIALS),
    ]
    for _ in range(rounds):
        tune = run_stage(place, "tune", *as_arguments(lease_tune(place, featurized), featurized))
        search_s = client.get_run(tune).data.metrics["search_s"]
        guide_s, plain_s = (ask_process([*loop, how], place.env)["loop_s"] for how in ("autolog", "plain"))
        parts = {"the guide's loop": guide_s, "without autologging": plain_s, "retune's search": search_s}
        figure.add(guide_s / search_s, parts)
        figure.remark = (
            f"In the last round, {1 - plain_s / guide_s:.0%} of the guide's loop was autologging, and the fits alone, "
            f"which keep nothing, took {plain_s / search_s:.2f} times as long as retune's tracked search with its own "
            "scoring: the fits are what is left."
        )
    return figure
