"""The featurize job: spark-submit's target."""

import sys

from retune.job import main
from retune.stages import featurize

if __name__ == "__main__":
    sys.exit(main("featurize", featurize.run))
