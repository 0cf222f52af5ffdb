"""What all tests have in common: JVMs for jobs of seconds, and which tests one worker runs after another."""

import os

import pytest

# Without its second compiler and its collector's threads, a JVM that lives for seconds takes half the CPU time.
for _options in ("SPARK_SUBMIT_OPTS", "SPARK_LAUNCHER_OPTS"):
    os.environ.setdefault(_options, "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests by file, and those of tests/stack as one: two whole Airflows at a time take each other's ports."""
    for item in items:
        folder = item.path.parent.name
        group = folder if folder == "stack" else f"{folder}/{item.path.stem}"
        item.add_marker(pytest.mark.xdist_group(group))
