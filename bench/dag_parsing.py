"""How long Airflow takes to parse ten experiments, over a DAG file that holds one plain SparkSubmitOperator."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from measure import Figure, Timing, time_process
from place import BENCH_DAGS, ROOT, Place

NAME = "dag_parsing"
ROUNDS = 9
_EXPERIMENTS = 10
_PARSE = """
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1], load_op_links=False)
sys.exit(str(bag.import_errors) if bag.import_errors or len(bag.dags) != int(sys.argv[2]) else 0)
"""


def measure(place: Place, rounds: int) -> Figure:
    """Time fresh processes; the first of each kind, which compiles what it imports, does not count."""
    figure = Figure(
        NAME,
        "DAG parsing",
        f"A fresh process that parses `dags/retune_dags.py` over {_EXPERIMENTS} experiments, against one that parses "
        "a DAG file with one plain `SparkSubmitOperator`; both through Airflow's `DagBag`.",
        goal=1.15,
    )
    env = {**place.env, "RETUNE_EXPERIMENTS": str(_copy_experiments(place.home / "ten_experiments"))}

    def parse(path: Path, dags: int) -> Timing:
        return time_process([sys.executable, "-c", _PARSE, str(path), str(dags)], env)

    for number in range(rounds + 1):
        retune = parse(ROOT / "dags" / "retune_dags.py", _EXPERIMENTS)
        plain = parse(BENCH_DAGS / "plain_submit.py", 1)
        if number:
            figure.add(
                retune.wall_s / plain.wall_s,
                {
                    "retune": retune.wall_s,
                    "plain": plain.wall_s,
                    "retune, CPU": retune.cpu_s,
                    "plain, CPU": plain.cpu_s,
                },
            )
    return figure


def _copy_experiments(folder: Path) -> Path:
    folder.mkdir()
    text = (ROOT / "experiments" / "california_housing.yaml").read_text(encoding="utf-8")
    for number in range(_EXPERIMENTS):
        name = f"bench_{number}"
        copy = re.sub(r"^name: .*$", f"name: {name}", text, count=1, flags=re.MULTILINE)
        (folder / f"{name}.yaml").write_text(copy, encoding="utf-8")
    return folder
