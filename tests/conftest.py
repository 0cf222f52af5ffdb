"""What all tests have in common: JVMs for jobs of seconds, and which tests one worker runs after another."""

import os

import pytest
from xdist.scheduler import LoadFileScheduling

# Without its second compiler and its collector's threads, a JVM that lives for seconds takes half the CPU time.
for _options in ("SPARK_SUBMIT_OPTS", "SPARK_LAUNCHER_OPTS"):
    os.environ.setdefault(_options, "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")


class FilesOfStackInTurn(LoadFileScheduling):
    """File by file, and those of tests/stack as one: whole Airflows that start together take each other's ports."""

    def _split_scope(self, nodeid):
        return "tests/stack" if nodeid.startswith("tests/stack/") else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return FilesOfStackInTurn(config, log)
