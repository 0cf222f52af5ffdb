"""The MLflow project's entry point `train`: one network, fitted and scored."""

import sys

from retune.project.command import main

if __name__ == "__main__":
    sys.exit(main("train"))
