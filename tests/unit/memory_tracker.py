"""A tracker that keeps trials in memory; it passes the conformance suite of trackers."""

from retune.search.trial import Trial
from retune.space import Setting


class MemoryTracker:
    """Keeps what it is told; `history` gives the trials that ended."""

    def __init__(self) -> None:
        self.started: dict[str, tuple[int, Setting]] = {}
        self._ended: dict[str, Trial] = {}
        self.progress: list[dict[str, float]] = []

    def start(self, number: int, setting: Setting) -> str:
        run_id = f"run {len(self.started)}"
        self.started[run_id] = (number, setting)
        return run_id

    def end(self, trial: Trial) -> None:
        assert self.started[trial.run_id] == (trial.number, trial.setting)
        assert trial.run_id not in self._ended, f"{trial.run_id} ended twice"
        self._ended[trial.run_id] = trial

    def report(self, step: int, progress: dict[str, float]) -> None:
        assert step >= len(self._ended)
        self.progress.append(progress)

    def history(self) -> list[Trial]:
        return sorted(self._ended.values(), key=lambda trial: trial.number)
