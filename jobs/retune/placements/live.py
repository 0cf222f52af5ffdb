"""What a fit tells of its rounds, in the trial's run while it goes on: for families such as networks."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from retune import settings
from retune.errors import one_line
from retune.experiment import Experiment
from retune.trainers import load_trainer
from retune.trainers.base_task import Report

log = logging.getLogger(__name__)
_EVERY_S = 1.0
_LAST_WAIT_S = 10.0
_BATCH = 1000  # the most that MLflow takes in a call


@dataclass(frozen=True)
class LiveLog:
    """Logs rounds by step from wherever a trial is fitted; it travels there.

    Attributes:
        uri: Of the tracking server.
    """

    uri: str

    @contextmanager
    def of_fit(self, run_id: str, prefix: str = "") -> Iterator[Report]:
        """Give what takes in the rounds of one fit, and write the last of them in the end.

        Args:
            run_id: The trial's run.
            prefix: Of the metrics' names.
        """
        writer = _Writer(self.uri, run_id, prefix)
        try:
            yield writer.add
        finally:
            writer.close()


def live_log_of(experiment: Experiment) -> LiveLog | None:
    """Return what logs the rounds of an experiment's trials, if its trainer tells of them."""
    own = experiment.search.objective is not None
    return None if own or not load_trainer(experiment.model.trainer).reports else LiveLog(settings.tracking_uri())


class _Writer:
    """Writes about once a second, in a thread beside the fit: neither a slow server nor a lost one is the trial's."""

    def __init__(self, uri: str, run_id: str, prefix: str) -> None:
        self._uri, self._run_id, self._prefix = uri, run_id, prefix
        self._waiting: list[Metric] = []
        self._thread = Thread()
        self._written_at = time.monotonic()

    def add(self, rounds: int, measured: Mapping[str, float]) -> None:
        """Take in one round; see `Report`."""
        now = int(time.time() * 1000)
        self._waiting += [
            Metric(self._prefix + name, value, now, rounds) for name, value in measured.items() if math.isfinite(value)
        ]
        if time.monotonic() - self._written_at >= _EVERY_S and not self._thread.is_alive():
            self._write()

    def close(self) -> None:
        """Write what is left, unless the server keeps the fit's end waiting."""
        for _ in range(2):  # what is under way, and the rest
            if self._thread.ident is not None:
                self._thread.join(_LAST_WAIT_S)
            if self._thread.is_alive():
                log.warning("MLflow takes too long: the last %d metrics of rounds are lost", len(self._waiting))
                return
            if self._waiting:
                self._write()

    def _write(self) -> None:
        self._thread = Thread(target=self._send, args=(self._waiting,), daemon=True)
        self._waiting, self._written_at = [], time.monotonic()
        self._thread.start()

    def _send(self, metrics: list[Metric]) -> None:
        try:
            client = MlflowClient(self._uri)
            for start in range(0, len(metrics), _BATCH):
                client.log_batch(self._run_id, metrics=metrics[start : start + _BATCH])
        except Exception as error:
            log.warning("%d metrics of rounds could not be logged: %s", len(metrics), one_line(error))
