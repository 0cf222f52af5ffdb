"""Stores of blobs: what each lists and fetches, as whom, and what is said when it does not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas
from blob_servers import ACCOUNT, ACCOUNT_KEY, azurite, find_azurite, free_port, web_server

from retune.connection import Connection
from retune.data.stores import Blob, Store
from retune.data_section import AzureBlobData, BlobData, HttpData, S3Data
from retune.errors import BadInput, RetuneError

FILES = {"rows.csv": b"x,y\n1,2\n", "part/1.csv": b"x,y\n3,4\n", "part/2.csv": b"x,y\n5,6\n", "part/_SUCCESS": b"1"}
WRONG_KEY = "d3Jvbmcta2V5LXdyb25nLWtleQ=="


@dataclass
class Server:
    """A store with `FILES`, and how it is named in an experiment file."""

    section: type[BlobData]
    fields: dict[str, Any]
    connection: Connection
    put: Callable[[str, bytes], None]
    wrong: list[Connection] = field(default_factory=list)
    root: str = ""

    def store(self, path: str = "rows.csv", connection: Connection | None = None, **fields: Any) -> Store:
        given = {"path": self.root + path, "target": "y", "connection": "blobs", **self.fields, **fields}
        return Store(self.section.model_validate(given), connection or self.connection)


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if find_azurite() is None:
        pytest.skip("Azurite is not installed")
    with azurite(tmp_path_factory.mktemp("azurite")) as (url, _):
        container = BlobServiceClient(url, credential=ACCOUNT_KEY).create_container("rows")
        wrong = [
            Connection(host=url, password=WRONG_KEY),
            Connection(host=url, password="no base64!"),
            Connection(host=url, extra={"sas_token": sas(timedelta(hours=-1))}),
        ]
        yield Server(
            AzureBlobData,
            {"source": "azure_blob", "account": ACCOUNT, "container": "rows"},
            Connection(host=url, login=ACCOUNT, password=ACCOUNT_KEY),
            lambda name, body: container.upload_blob(name, body, overwrite=True) and None,
            wrong,
        )


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    login = {"aws_access_key_id": "me", "aws_secret_access_key": "of-moto"}
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **login)
    client.create_bucket(Bucket="rows")
    yield Server(
        S3Data,
        {"source": "s3", "bucket": "rows"},
        Connection(login="me", password="of-moto", extra={"endpoint_url": url, "region_name": "us-east-1"}),
        lambda name, body: client.put_object(Bucket="rows", Key=name, Body=body) and None,
    )
    server.stop()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("web")

    def put(name: str, body: bytes) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        # The server tells a time of whole seconds.
        versions[name] = versions.get(name, 0) + 1
        (folder / name).write_bytes(body)
        os.utime(folder / name, (versions[name], versions[name]))

    versions: dict[str, int] = {}
    with web_server(folder) as (url, _):
        yield Server(HttpData, {"source": "http"}, Connection(), put, root=f"{url}/")


@pytest.fixture(params=["azure", "s3", "web"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    for name, body in FILES.items():
        found.put(name, body)
    return found


def sas(valid: timedelta) -> str:
    may = AccountSasPermissions(read=True, list=True)
    return generate_account_sas(
        ACCOUNT, ACCOUNT_KEY, ResourceTypes(container=True, object=True), may, expiry=datetime.now(UTC) + valid
    )


def names(blobs: list[Blob]) -> list[str]:
    return [blob.name.rpartition("rows/")[2] for blob in blobs]


def test_a_blob_is_found_with_size_and_version_and_comes_whole(server, tmp_path):
    store = server.store()
    (blob,) = store.find("data")
    assert (blob.size, blob.name.endswith("rows.csv")) == (8, True)
    assert blob.version
    store.fetch("data", blob, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == FILES["rows.csv"]


def test_the_version_changes_with_the_content_and_only_then(server):
    (first,) = server.store().find("data")
    assert server.store().find("data") == [first]
    server.put("rows.csv", b"x,y\n1,3\n")
    (second,) = server.store().find("data")
    assert second.version != first.version


def test_a_blob_that_changed_its_size_on_the_way_does_not_count(server, tmp_path):
    store = server.store()
    (blob,) = store.find("data")
    server.put("rows.csv", b"x,y\n")
    with pytest.raises(RetuneError, match=r"4 of 8 bytes of .*rows.csv came; try again"):
        store.fetch("data", blob, tmp_path / "copy")


def test_a_blob_that_is_not_there_is_said_so(server):
    with pytest.raises(BadInput, match=r"^data.path = \S*none.csv: (there is no such blob at|is not there)"):
        server.store("none.csv").find("data")


@pytest.mark.parametrize("server", ["azure", "s3"], indirect=True)
@pytest.mark.parametrize("path", ["part", "part/*.csv"])
def test_a_folder_and_a_glob_are_their_files(server, path):
    assert names(server.store(path).find("data")) == ["part/1.csv", "part/2.csv"]


@pytest.mark.parametrize("server", ["azure", "s3"], indirect=True)
def test_a_container_that_is_not_there_is_said_so(server):
    name = "bucket" if "bucket" in server.fields else "container"
    with pytest.raises(BadInput, match=r"/(/)?nope/ is not there"):
        server.store(**{name: "nope"}).find("data")


@pytest.mark.parametrize("server", ["azure"], indirect=True)
def test_every_way_to_say_who_one_is_serves(server):
    url = server.connection.host
    parts = f"BlobEndpoint={url};AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY}"
    for connection in (
        Connection(host=url, extra={"shared_access_key": ACCOUNT_KEY}),
        Connection(host=url, extra={"sas_token": sas(timedelta(hours=1))}),
        Connection(host=url, extra={"sas_token": "?" + sas(timedelta(hours=1))}),
        Connection(extra={"connection_string": parts}),
    ):
        assert len(server.store(connection=connection).find("data")) == 1


@pytest.mark.parametrize("server", ["azure"], indirect=True)
def test_a_refused_credential_is_named_by_its_connection_and_not_shown(server):
    for connection in server.wrong:
        with pytest.raises(BadInput, match="the credential of connection 'blobs' is refused; check its key") as told:
            server.store(connection=connection).find("data")
        secret = connection.password or str(connection.extra["sas_token"])
        assert secret not in str(told.value)
        assert told.value.__cause__ is None


def test_a_web_server_that_does_not_answer_is_no_bad_input():
    url = f"http://127.0.0.1:{free_port()}/rows.csv"
    data = HttpData.model_validate({"source": "http", "path": url, "target": "y"})
    with pytest.raises(RetuneError, match="cannot be read from its store") as told:
        Store(data, None).find("data")
    assert not isinstance(told.value, BadInput)


def test_a_web_server_is_told_user_and_password(web):
    web.put("private/rows.csv", b"x,y\n")
    store = web.store("private/rows.csv", Connection(login="me", password="of-web"))
    assert len(store.find("data")) == 1
    with pytest.raises(BadInput, match="the credential of connection 'blobs' is refused"):
        web.store("private/rows.csv", Connection(login="me", password="not-of-web")).find("data")


def test_a_credential_does_not_follow_to_another_server(web, tmp_path):
    with web_server(tmp_path) as (elsewhere, requests):
        target = f"/elsewhere?{elsewhere}/rows.csv"
        (tmp_path / "rows.csv").write_text("x,y\n")
        with pytest.raises(BadInput, match="sends to another one"):
            web.store(target.lstrip("/"), Connection(extra={"X-Api-Key": "of-web"})).find("data")
        assert requests == []


@pytest.mark.parametrize(
    ("server", "connection"),
    [
        ("azure", Connection(extra={"connection_string": "nothing of the kind"})),
        ("azure", Connection(extra={"storage_key": ACCOUNT_KEY})),
        ("web", Connection(password=ACCOUNT_KEY)),
        ("web", Connection(extra={"headers": {"Authorization": ACCOUNT_KEY}})),
    ],
    indirect=["server"],
)
def test_a_connection_of_another_form_is_bad_input_and_not_shown(server, connection):
    with pytest.raises(BadInput, match=r"^data.connection") as told:
        server.store(connection=connection).find("data")
    assert ACCOUNT_KEY not in str(told.value)
