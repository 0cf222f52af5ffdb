"""The summary of one pipeline run, read from MLflow alone."""

from __future__ import annotations

import json
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from retune import handoff, run_tree, settings
from retune.experiment import Experiment
from retune.metrics import METRICS, metrics_for
from retune.space import flatten


def close_pipeline(client: MlflowClient, evaluate_run_id: str) -> None:
    """End the pipeline run of a FINISHED evaluate run, and write its summary."""
    pipeline = client.get_run(client.get_run(evaluate_run_id).data.tags[run_tree.PARENT])
    run_tree.end_pipeline(client, pipeline, "FINISHED")
    log_summary(client, pipeline.info.run_id)


def log_summary(client: MlflowClient, pipeline_run_id: str) -> None:
    """Write the summary onto the pipeline run: as its description, and as `summary.md`."""
    text = build_summary(client, pipeline_run_id)
    client.set_tag(pipeline_run_id, "mlflow.note.content", text)
    client.log_text(pipeline_run_id, text, "summary.md")


def build_summary(client: MlflowClient, pipeline_run_id: str) -> str:
    """Return the summary as Markdown; what a run that has not got so far lacks is left out."""
    pipeline = client.get_run(pipeline_run_id)
    experiment = handoff.read_resolved(pipeline_run_id)
    stages = {name: runs[-1] for name in run_tree.STAGES if (runs := run_tree.children(client, pipeline, name))}
    parts = [f"# {experiment.dag_id}: {pipeline.data.tags[run_tree.DAG_RUN]}"]
    if "tune" in stages:
        parts.append(_search_part(stages["tune"], experiment))
    if "evaluate" in stages:
        parts += [_scores_part(stages["evaluate"], experiment), _promotion_part(stages["evaluate"], experiment)]
    if "retrain" in stages:
        parts.append(_importances_part(stages["retrain"]))
    parts.append(_stages_part(pipeline, stages))
    return "\n\n".join(part for part in parts if part) + "\n"


def _search_part(tune: Run, experiment: Experiment) -> str:
    tags, metrics = tune.data.tags, tune.data.metrics
    if handoff.OUTPUT + "best_setting" not in tags:
        return ""
    best = json.loads(tags[handoff.OUTPUT + "best_setting"])
    name = f"validation_{experiment.search.metric}"
    untuned = experiment.untuned_parameters
    rows = [[key, _shown(value), _shown(untuned.get(key, "(default)"))] for key, value in flatten(best).items()]
    lines = [
        f"## Best of {metrics['trials']:.0f} trials",
        f"{metrics['failed_trials']:.0f} failed; stopped because {tags['retune.stop_reason']}",
        f"{name}: {metrics[name]:.6g}",
        "",
        *_table(["parameter", "best", "untuned"], rows),
    ]
    return "\n".join(lines)


def _scores_part(evaluate: Run, experiment: Experiment) -> str:
    metrics = evaluate.data.metrics
    models = [m for m in ("untuned", "challenger", "champion") if f"{m}_test_{experiment.search.metric}" in metrics]
    if not models:
        return ""
    names = sorted(metrics_for(experiment.problem), key=lambda name: name != experiment.search.metric)
    titles = {"untuned": "untuned", "challenger": "tuned (challenger)", "champion": "champion before"}
    rows = [
        [
            name + (" *" if name == experiment.search.metric else ""),
            *[_value(metrics, f"{m}_test_{name}") for m in models],
        ]
        for name in names
    ]
    lines = ["## On the test rows", *_table(["metric", *[titles[m] for m in models]], rows)]
    untuned, tuned = (metrics.get(f"{m}_test_{experiment.search.metric}") for m in ("untuned", "challenger"))
    if untuned is not None and tuned is not None and METRICS[experiment.search.metric].gain(tuned, over=untuned) < 0:
        lines += ["", "On these rows the untuned setting does better than the tuned one."]
    return "\n".join(lines)


def _promotion_part(evaluate: Run, experiment: Experiment) -> str:
    written = evaluate.data.tags.get("retune.promotion")
    if not written:
        return ""
    decision = json.loads(written)
    moved = "moved to" if decision["promote"] else "did not move to"
    return (
        f"## Champion\nThe alias `champion` of `{experiment.dag_id}` {moved} version {decision['challenger']}: "
        f"{decision['reason']}."
    )


def _importances_part(retrain: Run) -> str:
    written = json.loads(retrain.data.tags.get(handoff.IMPORTANCES, "{}"))
    rows = [[name.replace("|", "\\|"), f"{value:.3f}"] for name, value in written.items()]
    title = "## What the tuned model goes by"
    return "\n".join([title, *_table(["feature", "importance"], rows)]) if rows else ""


def _stages_part(pipeline: Run, stages: dict[str, Run]) -> str:
    rows = [
        [name, run.info.status, _seconds(run), run.info.run_id]
        for name, run in {"pipeline": pipeline, **stages}.items()
    ]
    link = settings.run_page(pipeline.info.experiment_id, pipeline.info.run_id)
    return "\n".join(["## Stages", *_table(["stage", "status", "seconds", "MLflow run"], rows), "", f"MLflow: {link}"])


def _seconds(run: Run) -> str:
    end = run.info.end_time
    return f"{(end - run.info.start_time) / 1000:.1f}" if end and run.info.status == "FINISHED" else "…"


def _value(metrics: dict[str, float], name: str) -> str:
    return f"{metrics[name]:.6g}" if name in metrics else ""


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table whose columns line up on a terminal too."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
