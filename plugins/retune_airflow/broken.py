"""The only task of a broken experiment's DAG."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException


class BrokenExperimentOperator(BaseOperator):
    """Fails, without a retry, with what is wrong in the experiment file."""

    ui_color = "#f8d7da"

    def __init__(self, *, reasons: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reasons = reasons

    def execute(self, context: Any) -> None:
        """Fail."""
        raise AirflowFailException(self.reasons)
