"""What Airflow shows as a DAG's documentation."""

from __future__ import annotations

from pathlib import Path

from retune.experiment import Experiment
from retune.mistakes import ExperimentError


def describe_experiment(experiment: Experiment, path: Path) -> str:
    """Return an experiment's documentation as Markdown: what it does, and the file itself."""
    data, search = experiment.data, experiment.search
    scored = f"best by validation `{search.metric}`"
    gain = f"from a gain of {experiment.promotion.minimum_gain:g} in test `{search.metric}`"
    algorithm = f"{search.engine} `{search.algorithm_name}`" if search.algorithm_name else search.engine
    limit = f", at most {search.timeout} s" if search.timeout else ""
    return f"""\
### {experiment.name}

{experiment.description}

| | |
|---|---|
| data | `{data.where}`, target `{data.target}` ({experiment.problem}) |
| model | {experiment.model.trainer} |
| search | {algorithm}, {search.trials} trials{limit}, {scored} |
| searched | {", ".join(f"`{name}`" for name in search.space)} |
| promotion | alias `champion` of `{experiment.dag_id}`, {gain} |
| MLflow experiment | `{experiment.mlflow_experiment}` |

`{path}`:

```yaml
{path.read_text(encoding="utf-8")}
```
"""


def describe_broken(path: Path, error: ExperimentError) -> str:
    """Return what is wrong in a broken file, as Markdown."""
    rows = "\n".join(
        f"| {mistake.line or ''} | {mistake.field} | {_cell(mistake.value or '')} | {_cell(mistake.rule)} |"
        for mistake in error.mistakes
    )
    return f"""\
### {path.name} cannot be used

`{path}`

| line | field | value | rule |
|---|---|---|---|
{rows}

Mend the file; the DAG comes back by itself. `make check` checks all files.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
