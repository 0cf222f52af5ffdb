"""The ingest job: spark-submit's target."""

import sys

from retune.job import main
from retune.stages import ingest

if __name__ == "__main__":
    sys.exit(main("ingest", ingest.run))
