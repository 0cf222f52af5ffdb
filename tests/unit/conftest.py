"""Settings of hypothesis for the unit tests: few examples, the same ones each time, so that a run takes seconds.

`pytest tests/unit --hypothesis-profile=thorough` looks further, at random.
"""

import gc

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("unit.engine_conformance", "unit.tracker_conformance")
settings.register_profile("fast", max_examples=40, deadline=None, derandomize=True, database=None)
settings.register_profile("thorough", max_examples=2000, deadline=None, database=None)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile(config.getoption("hypothesis_profile", None) or "fast")


def pytest_collection_finish() -> None:
    gc.freeze()  # 10^6 objects of libraries, which each collection would look through
