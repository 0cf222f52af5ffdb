"""How each store is told who is asking: a connection's fields, by Airflow's own names, as fsspec's options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retune.connection import Connection
from retune.data_section import AzureBlobData, BlobData
from retune.errors import BadInput

_AZURE_KEYS = ("shared_access_key", "account_key", "fs.azure.account.key")


def store_options(data: BlobData, connection: Connection | None) -> dict[str, Any]:
    """Return the options of a store's file system; without a connection, those for what this machine is."""
    if isinstance(data, AzureBlobData):
        return _azure(data.account, connection or Connection())
    return _OPTIONS[data.source](connection) if connection else {}


def _azure(account: str, connection: Connection) -> dict[str, Any]:
    """Return adlfs's options, from the fields of Airflow's connection type `wasb`."""
    extra, options = connection.extra, {"account_name": account}
    if given := extra.get("connection_string"):
        return {**options, "connection_string": given}
    key = next((value for name, value in extra.items() if name.startswith(_AZURE_KEYS)), None) or connection.password
    if "tenant_id" in extra and connection.login:
        secret = {"client_secret": connection.password, "tenant_id": extra["tenant_id"]}
        return {**options, "client_id": connection.login, **secret}
    # A URL of its own has an emulator, or a cloud for one country.
    endpoint = connection.host if "://" in connection.host else f"https://{account}.blob.core.windows.net"
    if token := extra.get("sas_token"):
        token = token.rpartition("?")[2]  # of a whole URL, too
        return {**options, "connection_string": f"BlobEndpoint={endpoint};SharedAccessSignature={token}"}
    if key:
        named = f"AccountName={account};AccountKey={key}"
        return {**options, "connection_string": f"BlobEndpoint={endpoint};{named}"}
    if extra.get("anon"):
        return {**options, "anon": True}
    if connection != Connection() and "managed_identity_client_id" not in extra:
        raise BadInput(
            "data.connection: has none of password, shared_access_key, sas_token, connection_string, "
            "managed_identity_client_id and anon; leave it out for the credential of this machine"
        )
    return {**options, "anon": False, "managed_identity_client_id": extra.get("managed_identity_client_id")}


def _s3(connection: Connection) -> dict[str, Any]:
    """Return s3fs's options, from the fields of Airflow's connection type `aws`."""
    extra = connection.extra
    region = extra.get("region_name")
    return {
        "key": connection.login or extra.get("aws_access_key_id"),
        "secret": connection.password or extra.get("aws_secret_access_key"),
        "token": extra.get("aws_session_token"),
        "endpoint_url": extra.get("endpoint_url"),
        "anon": bool(extra.get("anon")),
        "client_kwargs": {"region_name": region} if region else {},
    }


def _gcs(connection: Connection) -> dict[str, Any]:
    """Return gcsfs's options, from the fields of Airflow's connection type `google_cloud_platform`."""
    extra = connection.extra
    keyfile, path = extra.get("keyfile_dict"), extra.get("key_path")
    if isinstance(keyfile, str):
        keyfile = json.loads(keyfile)  # gcsfs would take any text for a token, and send it away
    if path and not Path(path).is_file():
        raise BadInput(f"data.connection: there is no file {path}, its key_path")
    keyfile = keyfile or path
    endpoint = {"endpoint_url": extra["endpoint_url"]} if "endpoint_url" in extra else {}
    return {"token": "anon" if extra.get("anon") else keyfile or "google_default", **endpoint}


def _http(connection: Connection) -> dict[str, Any]:
    """Return fsspec's options, from the fields of Airflow's connection type `http`: extra holds headers."""
    import aiohttp

    if connection.password and not connection.login:
        raise BadInput("data.connection: has a password without a login")
    for name, value in connection.extra.items():
        if isinstance(value, (dict, list)):
            raise BadInput(f"data.connection: {name!r} in its extra must be text: of type http, extra holds headers")
    auth = {"auth": aiohttp.BasicAuth(connection.login, connection.password)} if connection.login else {}
    headers = {str(name): str(value) for name, value in connection.extra.items()}
    watch = aiohttp.TraceConfig()
    watch.on_request_redirect.append(_stay_at_home)
    return {"client_kwargs": {"headers": headers, "trace_configs": [watch], **auth}}


async def _stay_at_home(session: Any, context: Any, redirect: Any) -> None:  # noqa: ARG001 - aiohttp's own form
    """Refuse to be sent to another server: a session takes its headers and password along."""
    from yarl import URL

    target = redirect.url.join(URL(redirect.response.headers.get("Location", "")))
    if redirect.url.origin() != target.origin():
        raise PermissionError(f"the server sends to another one, {target.origin()}, which is not for this credential")


_OPTIONS: dict[str, Callable[[Connection], dict[str, Any]]] = {
    "s3": _s3,
    "gcs": _gcs,
    "http": _http,
}
