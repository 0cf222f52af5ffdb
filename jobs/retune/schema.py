"""`make schema`: the JSON Schema of experiment files, for editors."""

from __future__ import annotations

import json
from pathlib import Path

from retune.experiment import Experiment

PATH = Path(__file__).resolve().parents[2] / "docs" / "experiment.schema.json"


def build_schema() -> str:
    """Return the schema as JSON text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Experiment.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(build_schema(), encoding="utf-8")
    print(f"wrote {PATH}")
