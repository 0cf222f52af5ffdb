"""The tune job: spark-submit's target."""

import sys

from retune.job import main
from retune.stages import tune

if __name__ == "__main__":
    sys.exit(main("tune", tune.run))
