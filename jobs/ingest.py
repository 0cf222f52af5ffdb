"""The ingest job: spark-submit's target."""

import sys

from retune.job import main

if __name__ == "__main__":
    sys.exit(main("ingest"))
