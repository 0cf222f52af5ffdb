"""What all tests have in common: JVMs for jobs of seconds."""

import os

# Without its second compiler and its collector's threads, a JVM that lives for seconds takes half the CPU time.
for _options in ("SPARK_SUBMIT_OPTS", "SPARK_LAUNCHER_OPTS"):
    os.environ.setdefault(_options, "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
