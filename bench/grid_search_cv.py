"""`GridSearchCV` over XGBoost on rows of a tune stage; prints its seconds and scores as JSON."""

import json
import sys
import time
from pathlib import Path

from sklearn.model_selection import GridSearchCV, PredefinedSplit
from xgboost import XGBClassifier

from retune.data.table import TableFiles, open_table


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    files = {name: tuple(value) if isinstance(value, list) else value for name, value in task["files"].items()}
    table = open_table(TableFiles(**files), task["folder"])
    model = XGBClassifier(n_jobs=1, verbosity=0, **task["fixed"])

    def search(grid: dict[str, list[float]]) -> GridSearchCV:
        return GridSearchCV(
            model,
            grid,
            scoring="neg_log_loss",
            cv=PredefinedSplit(table.parts),
            n_jobs=task["jobs"],
            refit=False,
            error_score="raise",
        ).fit(table.features, table.labels)

    search({"n_estimators": [2]})  # its processes have imported all by then, as those of the Spark session have
    started = time.perf_counter()
    found = search(task["grid"])
    told = {
        "search_s": time.perf_counter() - started,
        "settings": found.cv_results_["params"],
        "scores": found.cv_results_["mean_test_score"].tolist(),
        "best": found.best_params_,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
