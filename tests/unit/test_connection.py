"""A connection as a job is told it: read from a file or a pipe, and never shown."""

import json
from urllib.parse import quote

import pytest

from retune.connection import Connection, read_connection
from retune.errors import BadInput

KEY = "Y2FuYXJ5LWtleS+/ZWxzZQ=="
SIGNATURE = "sv=2025-01-05&sp=rl&sig=k%2Fcanary%3D"


def test_fields_are_read_as_airflow_writes_them(tmp_path):
    file = tmp_path / "connection"
    extra = {"sas_token": SIGNATURE}
    for given in (extra, json.dumps(extra)):
        file.write_text(json.dumps({"conn_type": "wasb", "host": None, "login": "me", "password": KEY, "extra": given}))
        assert read_connection(file, "blobs") == Connection(login="me", password=KEY, extra=extra)


@pytest.mark.parametrize("text", ["", "[]", "wasb://me:secret@", '{"extra": "secret"}', '{"extra": ["secret"]}'])
def test_what_is_no_connection_is_refused_and_not_repeated(tmp_path, text):
    file = tmp_path / "connection"
    file.write_text(text)
    with pytest.raises(BadInput, match=r"^data.connection = 'blobs': --credentials .* must be JSON") as told:
        read_connection(file, "blobs")
    assert "secret" not in str(told.value)
    assert told.value.__cause__ is None


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"--credentials .*/none cannot be read: No such file"):
        read_connection(tmp_path / "none", "blobs")


def test_no_secret_is_in_what_it_shows_of_itself():
    shown = repr(Connection(host="h", login="me", password=KEY, extra={"sas_token": SIGNATURE}))
    assert "me" in shown
    assert KEY not in shown
    assert "canary" not in shown


@pytest.mark.parametrize(
    "connection",
    [
        Connection(password=KEY),
        Connection(extra={"shared_access_key": KEY}),
        Connection(extra={"fs.azure.account.key.me.blob.core.windows.net": KEY}),
        Connection(extra={"connection_string": f"AccountName=me;AccountKey={KEY};EndpointSuffix=core.windows.net"}),
        Connection(extra={"keyfile_dict": json.dumps({"private_key": f"-----BEGIN\n{KEY}\n-----END"})}),
        Connection(extra={"keyfile_dict": {"private_key": KEY}}),
    ],
)
def test_a_secret_is_hidden_in_every_spelling(connection):
    for spelling in (KEY, quote(KEY, safe=""), f"AccountKey={KEY};", f'"{KEY}"'):
        hidden = connection.hide_secrets(f"no entry: {spelling} at http://127.0.0.1/me")
        assert KEY not in hidden
        assert quote(KEY, safe="") not in hidden
        assert hidden.startswith("no entry: ")


def test_a_signature_is_hidden_whole_and_alone():
    connection = Connection(extra={"sas_token": SIGNATURE, "endpoint_url": "http://127.0.0.1:9/me"})
    for spelling in (SIGNATURE, "sig=k%2Fcanary%3D", "k%2Fcanary%3D"):
        assert "canary" not in connection.hide_secrets(f"GET /rows?{spelling} HTTP/1.1")
    assert connection.hide_secrets("http://127.0.0.1:9/me is away") == "http://127.0.0.1:9/me is away"
