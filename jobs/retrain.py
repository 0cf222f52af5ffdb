"""The retrain job: spark-submit's target."""

import sys

from retune.job import main
from retune.stages import retrain

if __name__ == "__main__":
    sys.exit(main("retrain", retrain.run))
