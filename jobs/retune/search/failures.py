"""Whose fault a failed fit is: the setting's, which is told to the engine, or the cluster's, which is tried again."""

from __future__ import annotations

import re

from retune.errors import root_cause

_INFRASTRUCTURE = re.compile(
    "|".join(
        (
            r"ExecutorLostFailure",
            r"ExecutorDeadException",
            r"Slave lost|Worker lost|worker decommissioned",
            r"FetchFailed",
            r"Connection (refused|reset|timed out)|ConnectException|NoRouteToHost|UnknownHost",
            r"SocketTimeout|SocketException|BindException|Address already in use",
            r"(Rpc|Futures|Network|Read|Connect\w*)\W?time(d )?\W?out",
            r"TimeoutException",
            r"Broken pipe|EOFException",
            r"LGBM_NetworkInit",
            r"Could not find .* open port",
            r"barrier stage.*(slots|not enough)",
        )
    ),
    re.IGNORECASE,
)


def is_infrastructure(error: BaseException) -> bool:
    """Tell whether trouble in the infrastructure made a fit fail, so that the same setting may succeed next time.

    Such trouble has no type of its own by the time Spark and Py4J have handed it on, so its text is looked at.
    """
    return isinstance(error, (ConnectionError, TimeoutError)) or bool(
        _INFRASTRUCTURE.search(f"{root_cause(error)}\n{error}")
    )
