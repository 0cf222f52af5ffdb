"""The MLflow project's entry point `pipeline`: the five stages in order, without Airflow."""

import sys

from retune.project.command import main

if __name__ == "__main__":
    sys.exit(main("pipeline"))
