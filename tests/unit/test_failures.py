"""Whose fault a failure is, from texts that Spark, SynapseML and Python give."""

import pytest

from retune.search.failures import is_infrastructure


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Job aborted due to stage failure: ExecutorLostFailure (executor 1 exited caused by one of ...)"),
        RuntimeError("java.net.ConnectException: Connection refused (Connection refused)"),
        RuntimeError("org.apache.spark.shuffle.FetchFailedException: Failed to connect"),
        RuntimeError("java.util.concurrent.TimeoutException: Futures timed out after [1200 seconds]"),
        RuntimeError("Network init call failed in LightGBM with error: LGBM_NetworkInit"),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError("timed out"),
    ],
    ids=str,
)
def test_trouble_of_the_cluster(error):
    assert is_infrastructure(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Unknown objective no_such"),
        RuntimeError("LightGBMError: Check failed: (num_leaves) > (1) at config.cpp"),
        KeyError("validation_rmse"),
        ArithmeticError("validation_rmse is nan, not a finite number"),
    ],
    ids=str,
)
def test_fault_of_the_setting(error):
    assert not is_infrastructure(error)
