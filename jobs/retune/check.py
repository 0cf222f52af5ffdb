"""`make check`: every experiment file, as far as it can be checked without Spark, Airflow or data."""

from __future__ import annotations

import re
import sys

from retune import settings
from retune.errors import BadInput
from retune.experiment_file import find_experiments, line_of, read_experiment
from retune.mistakes import ExperimentError
from retune.trainers import load_trainer


def main() -> int:
    """Check all files of the experiments folder; return 0 if each is fine, else the exit code of bad input."""
    folder = settings.experiments_folder()
    try:
        paths = find_experiments(folder)
    except BadInput as error:
        print(error, file=sys.stderr)
        return error.exit_code
    failed = False
    for path in paths:
        try:
            experiment = read_experiment(path)
            load_trainer(experiment.model.trainer).check(experiment)
        except ExperimentError as error:
            failed = True
            print(error, file=sys.stderr)
        except BadInput as error:  # the trainer's, which begins with the field
            failed = True
            field = re.split(r"[: ]", str(error), maxsplit=1)[0]
            print(f"{path}:{line_of(path, field)}: {error}", file=sys.stderr)
        else:
            print(f"{path}: fine")
    if not paths:
        print(f"{folder} has no experiment file (*.yaml)", file=sys.stderr)
    return BadInput.exit_code if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
