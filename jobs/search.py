"""The MLflow project's entry point `main`: the search."""

import sys

from retune.project.command import main

if __name__ == "__main__":
    sys.exit(main("main", "search"))
