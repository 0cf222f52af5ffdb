"""How each store is told who is asking: a connection's fields, by Airflow's own names, as fsspec's options."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from retune.connection import Connection
from retune.data_section import AzureBlobData, BlobData


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
    key = extra.get("shared_access_key") or extra.get("account_key") or extra.get("fs.azure.account.key")
    if "tenant_id" in extra and connection.login:
        secret = {"client_secret": connection.password, "tenant_id": extra["tenant_id"]}
        return {**options, "client_id": connection.login, **secret}
    # A URL of its own has an emulator, or a cloud for one country.
    endpoint = connection.host if "://" in connection.host else f"https://{account}.blob.core.windows.net"
    if token := extra.get("sas_token"):
        return {**options, "connection_string": f"BlobEndpoint={endpoint};SharedAccessSignature={token.lstrip('?')}"}
    if key := key or connection.password:
        named = f"AccountName={account};AccountKey={key}"
        return {**options, "connection_string": f"BlobEndpoint={endpoint};{named}"}
    if extra.get("anon"):
        return {**options, "anon": True}
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
    keyfile = extra.get("keyfile_dict") or extra.get("key_path")
    if isinstance(keyfile, str) and keyfile.lstrip().startswith("{"):
        keyfile = json.loads(keyfile)
    endpoint = {"endpoint_url": extra["endpoint_url"]} if "endpoint_url" in extra else {}
    return {"token": "anon" if extra.get("anon") else keyfile or "google_default", **endpoint}


def _http(connection: Connection) -> dict[str, Any]:
    """Return fsspec's options, from the fields of Airflow's connection type `http`: extra holds headers."""
    import aiohttp

    auth = {"auth": aiohttp.BasicAuth(connection.login, connection.password)} if connection.login else {}
    return {"client_kwargs": {"headers": {str(k): str(v) for k, v in connection.extra.items()}, **auth}}


_OPTIONS: dict[str, Callable[[Connection], dict[str, Any]]] = {
    "s3": _s3,
    "gcs": _gcs,
    "http": _http,
}
