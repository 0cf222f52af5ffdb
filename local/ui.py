"""Run Airflow and MLflow on this machine until Ctrl-C, and leave nothing of them behind."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

import psutil

from scheduler_lock import SchedulerRuns, hold_scheduler_lock

LOOPBACK = "127.0.0.1"
AIRFLOW_PORT = 8080
MLFLOW_PORT = 5000
START_TIMEOUT_S = 240
# Running tasks get this long to stop their Spark drivers.
STOP_TIMEOUT_S = 15
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SERVERS = ("api-server", "mlflow")


class UiError(Exception):
    """What stops `make ui`, as one line for the user."""


def main() -> None:
    arguments = parse_arguments()
    # SIGINT too: a shell script's background job starts with it ignored. SIGHUP: the terminal was closed.
    for number in STOP_SIGNALS:
        signal.signal(number, stop_as_on_ctrl_c)
    try:
        with hold_scheduler_lock(home()):
            serve(arguments.airflow_port, arguments.mlflow_port)
    except KeyboardInterrupt:
        pass
    except SchedulerRuns:
        sys.exit(
            f"retune: `make ui` or `make demo` already runs for {home()}. End it, or set another RETUNE_HOME: "
            "the scheduler of this one would take its tasks"
        )
    except UiError as error:
        sys.exit(f"retune: {error}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--airflow-port", type=int, default=0, help=f"by default {AIRFLOW_PORT} if it is free, else any that is"
    )
    parser.add_argument(
        "--mlflow-port", type=int, default=0, help=f"by default {MLFLOW_PORT} if it is free, else any that is"
    )
    return parser.parse_args()


def stop_as_on_ctrl_c(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def serve(airflow_port: int, mlflow_port: int) -> None:
    """Start both, print where they are, and wait until one dies or a signal comes.

    Args:
        airflow_port: Port of Airflow's UI and API; 0 for the usual one, if free, else any.
        mlflow_port: Port of MLflow's UI, likewise. Without meaning when MLFLOW_TRACKING_URI is a
            server, which has a UI of its own.

    Raises:
        UiError: A port is taken, a process ended, or they did not answer in time.
    """
    tracking_uri = os.environ["MLFLOW_TRACKING_URI"]
    airflow_url = f"http://{LOOPBACK}:{choose_port(airflow_port, AIRFLOW_PORT)}"
    commands = build_airflow_commands()
    if tracking_uri.startswith(("http://", "https://")):
        mlflow_url = without_credentials(tracking_uri)
    else:
        mlflow_url = f"http://{LOOPBACK}:{choose_port(mlflow_port, MLFLOW_PORT)}"
        commands["mlflow"] = build_mlflow_command(mlflow_url)

    print("Starting Airflow and MLflow, about half a minute ...", flush=True)
    environment = build_environment(airflow_url, mlflow_url, tracking_uri)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            processes[name] = start(name, command, environment)
        wait_until(lambda: is_airflow_healthy(airflow_url), processes)
        if "mlflow" in processes:
            wait_until(lambda: fetch(f"{mlflow_url}/health") is not None, processes)
        print_addresses(airflow_url, mlflow_url)
        while True:
            raise_if_ended(processes)
            time.sleep(1)
    finally:
        stop(processes)


def build_airflow_commands() -> dict[str, list[str]]:
    """The parts of `airflow standalone`, started one by one.

    Its scheduler and triggerer would serve their logs on all of the machine's addresses, and no setting
    stops them. Nobody asks those servers here: the API server reads the log files itself.
    """
    return {
        "api-server": ["airflow", "api-server"],
        "scheduler": ["airflow", "scheduler", "--skip-serve-logs"],
        "dag-processor": ["airflow", "dag-processor"],
        "triggerer": ["airflow", "triggerer", "--skip-serve-logs"],
    }


def build_mlflow_command(url: str) -> list[str]:
    return ["mlflow", "server", "--host", LOOPBACK, "--port", str(urlsplit(url).port), "--workers", "1"]


def build_environment(airflow_url: str, mlflow_url: str, tracking_uri: str) -> dict[str, str]:
    return {
        **os.environ,
        "AIRFLOW__API__PORT": str(urlsplit(airflow_url).port),
        "AIRFLOW__API__BASE_URL": airflow_url,
        # Without it tasks report to port 8080, whatever the port above.
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{airflow_url}/execution/",
        "RETUNE_MLFLOW_UI": mlflow_url,
        # Not an argument: it may hold a database's password, and `ps` shows arguments to everyone.
        "MLFLOW_BACKEND_STORE_URI": tracking_uri,
        # The workers of MLflow's evaluation jobs, which retune does not use.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONUNBUFFERED": "1",
    }


def start(name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own: Ctrl-C reaches this process only, which then ends all of them."""
    with log_path(name).open("wb") as log:
        return subprocess.Popen(
            command,
            # MLflow would put an ./mlruns where it is started.
            cwd=home(),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until(is_ready: Callable[[], bool], processes: dict[str, subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        raise_if_ended(processes)
        if time.monotonic() > deadline:
            raise UiError(f"no answer after {START_TIMEOUT_S} s; the logs are {log_path('*')}")
        time.sleep(0.5)


def raise_if_ended(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            raise UiError(f"{name} ended with exit code {process.returncode}; its log is {log_path(name)}")


def is_airflow_healthy(url: str) -> bool:
    """Tell whether the API answers and the parts without which no DAG would run are at work."""
    answer = fetch(f"{url}/api/v2/monitor/health")
    if answer is None:
        return False
    health = json.loads(answer)
    return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))


def fetch(url: str) -> bytes | None:
    """Read a page; None while its server does not answer."""
    # A proxy set for the way out has no part in loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            page: bytes = response.read()
            return page
    except OSError:
        return None


def print_addresses(airflow_url: str, mlflow_url: str) -> None:
    print(f"\n  Airflow  {airflow_url}")
    for user, password in read_passwords().items():
        print(f"           log in as {user} with password {password}")
    print(f"  MLflow   {mlflow_url}")
    print(f"  Logs     {log_path('*')}\n\nCtrl-C ends both.", flush=True)


def read_passwords() -> dict[str, str]:
    """The log-ins that Airflow's simple auth manager made up; none where it is set up otherwise."""
    path = home() / "airflow" / "simple_auth_manager_passwords.json.generated"
    if not path.exists():
        return {}
    passwords: dict[str, str] = json.loads(path.read_text())
    return passwords


def stop(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """End the processes and all that came of them, Spark drivers of running tasks included."""
    # A second Ctrl-C must not leave half of them running.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    say("\nStopping ...")
    # The servers go last: a task that is stopped reports that to Airflow's API, a Spark job to MLflow's.
    end_sessions({process.pid for name, process in processes.items() if name not in SERVERS})
    end_sessions({process.pid for process in processes.values()})
    say("Stopped.")


def say(text: str) -> None:
    """Print to a terminal that may be gone by now."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def end_sessions(leaders: set[int]) -> None:
    family = find_family(leaders)
    # An idle Airflow process ends within a second when it alone is asked to, and takes ten if its children go
    # first. One with running tasks would wait for them; a second signal tells it not to.
    first = [member for member in family if member.pid in leaders]
    for member in first:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    psutil.wait_procs(first, timeout=2)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
    # Looked for again: some were born while the others ended.
    leftover = family | find_family(leaders)
    for member in leftover:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(leftover)


def find_family(leaders: set[int]) -> set[psutil.Process]:
    """Find the sessions' members, among them orphans, and the leaders' descendants, whatever their session."""
    family = set()
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(process.pid) in leaders:
                family.add(process)
            if process.pid in leaders:
                family.update(process.children(recursive=True))
    return family


def choose_port(wanted: int, usual: int) -> int:
    """Return the wanted port of the loopback address, or with 0 the usual one if it is free, else any that is.

    Raises:
        UiError: The wanted one is taken.
    """
    for port in [wanted] if wanted else [usual, 0]:
        with socket.socket() as probe, contextlib.suppress(OSError):
            # A port that was in use a moment ago counts as free, as it will for the server.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return int(probe.getsockname()[1])
    raise UiError(f"port {wanted} of {LOOPBACK} is taken; choose another, or 0")


def without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def home() -> Path:
    return Path(os.environ["RETUNE_HOME"])


def log_path(name: str) -> Path:
    return home() / "logs" / f"ui-{name}.log"


if __name__ == "__main__":
    main()
