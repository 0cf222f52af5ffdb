"""A tune job killed again and again, at random moments and inside the write of a trial: nothing is lost or doubled.

`make chaos` does it with 20 kills; RETUNE_CHAOS_KILLS, RETUNE_CHAOS_SEED and RETUNE_CHAOS_PARALLEL (how many trials run
side by side) choose others.
"""

from __future__ import annotations

import json
import logging
import os
import random
from pathlib import Path

import psutil
import pytest
from flights import EXPERIMENT, write_flights
from jobs.conftest import Jobs

log = logging.getLogger(__name__)
KILLS = int(os.environ.get("RETUNE_CHAOS_KILLS", "2"))
SEED = int(os.environ.get("RETUNE_CHAOS_SEED", "1"))
PARALLEL = int(os.environ.get("RETUNE_CHAOS_PARALLEL", "2"))
TRIALS = 2 * KILLS * PARALLEL
# With several at once, what tpe proposes hangs on which ends first.
BUDGET = f"max_trials: {TRIALS}" + (f"\n  algorithm: rand\n  parallel_trials: {PARALLEL}" if PARALLEL > 1 else "")
DOOMED = '''
"""The tune job, and what kills it: its whole process group, after some seconds of trials or inside a trial's write."""
import os
import signal
import sys
import threading

from retune import trial_runs
from retune.job import main
from retune.stages import tune

after_s, write = float(os.environ["CHAOS_AFTER_S"]), int(os.environ["CHAOS_WRITE"])


def kill(*args, **kwargs):
    os.killpg(os.getpgrp(), signal.SIGKILL)


def run_search(*args):
    if not write:
        threading.Timer(after_s, kill).start()
    return search(*args)


class TrialRuns(trial_runs.TrialRuns):
    """Dies between two calls of a trial's end."""

    ended = 0

    def end(self, trial):
        TrialRuns.ended += 1
        if TrialRuns.ended == 2:
            half = "log_batch" if write == 1 else "set_terminated"
            setattr(self._client, half, kill)
        super().end(trial)


search, tune.run_search = tune.run_search, run_search
if write:
    tune.TrialRuns = TrialRuns
sys.exit(main("tune"))
'''


def trials(jobs, *statuses):
    (experiment,) = [e.experiment_id for e in jobs.client.search_experiments() if e.name == "retune/flights"]
    found = jobs.client.search_runs([experiment], "tags.`retune.stage` = 'trial'", max_results=1000)
    return {run.info.run_id: run for run in found if run.info.status in statuses}


def settings_by_number(runs):
    return {int(run.data.tags["retune.trial"]): run.data.tags["retune.setting"] for run in runs.values()}


def prepare(home, folder):
    jobs = Jobs(home)
    experiment = write_flights(folder)
    experiment.write_text(EXPERIMENT.replace("max_trials: 4", BUDGET))
    jobs.run("ingest", "--experiment", str(experiment))
    jobs.run("featurize", "--upstream-run-id", jobs.runs["ingest"])
    return jobs, ("--upstream-run-id", jobs.runs["featurize"])


def kill_once(jobs, script: Path, upstream, chance: random.Random, write: int) -> None:
    """Start the doomed job and wait for its death; nothing of it is left."""
    after_s = chance.uniform(0.5, 6)
    jobs.settings |= {"CHAOS_AFTER_S": str(after_s), "CHAOS_WRITE": str(write)}
    job = jobs.start_script(script, *upstream)
    output, _ = job.communicate(timeout=300)
    assert job.returncode == -9, output
    assert [process for process in psutil.process_iter() if _lives_in(process, job.pid)] == [], "processes are left"


def _lives_in(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


@pytest.fixture
def calm(chain, tmp_path):
    """Return jobs whose search of as many trials was not interrupted."""
    if f"max_trials: {chain.client.get_run(chain.runs['tune']).data.metrics['trials']:.0f}" == BUDGET:
        return chain
    jobs, upstream = prepare(tmp_path / "calm home", tmp_path / "data")
    jobs.run("tune", *upstream)
    return jobs


def test_no_kill_loses_or_doubles_a_trial(tmp_path, calm):
    jobs, upstream = prepare(tmp_path / "home", tmp_path / "data")
    script = tmp_path / "doomed_tune.py"
    script.write_text(DOOMED)
    chance, kept = random.Random(SEED), {}
    for kill in range(KILLS):
        kill_once(jobs, script, upstream, chance, write=(kill + 2) % 3)
        finished = trials(jobs, "FINISHED")
        assert kept.keys() <= finished.keys(), "a finished trial was lost"
        kept = finished
        log.info("kill %d: %d of %d trials finished", kill + 1, len(kept), TRIALS)
    jobs.run("tune", *upstream)

    finished, all_runs = trials(jobs, "FINISHED"), trials(jobs, "FINISHED", "FAILED", "KILLED", "RUNNING", "SCHEDULED")
    assert kept.keys() <= finished.keys()
    assert sorted(settings_by_number(finished)) == list(range(TRIALS))
    assert len(finished) == TRIALS, "a setting was counted twice"
    assert len(all_runs) <= TRIALS + KILLS * PARALLEL, "more trials were run again than ran at the kills"
    assert {run.info.status for run in all_runs.values()} <= {"FINISHED", "KILLED"}
    assert settings_by_number(finished) == settings_by_number(trials(calm, "FINISHED"))
    assert json.loads(jobs.output("tune", "best_setting")) == json.loads(calm.output("tune", "best_setting"))
    assert jobs.tags("tune")["retune.attempt"] == str(KILLS + 1)
