"""An Airflow connection as a job is given it: who it is to a store of data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from retune.errors import BadInput

# What a connection says beside secrets; all else in its `extra` is taken for one.
_HARMLESS = (
    *("anon", "endpoint_url", "host", "region_name", "tenant_id", "managed_identity_client_id"),
    *("workload_identity_tenant_id", "key_path", "account_name", "project", "num_retries"),
)
_SHORTEST_SECRET = 4  # hiding less would hide half of every message


@dataclass(frozen=True)
class Connection:
    """The fields of an Airflow connection; see Airflow's documentation of each type for what they hold.

    Attributes:
        host: Of the server, often as a URL.
        login: User, key or client id.
        password: Of the login.
        extra: Further fields, by name.
    """

    host: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def hide_secrets(self, text: str) -> str:
        """Return `text` without any secret of this connection, in whatever spelling."""
        spellings = {each for secret in self._secrets() for each in _spell(secret)}
        for secret in sorted(spellings, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _secrets(self) -> Iterator[str]:
        given = {name: value for name, value in self.extra.items() if name not in _HARMLESS}
        for whole in [self.password, *_texts(given)]:
            # The parts of a connection string, of a signature, of lines of a key.
            parts = re.split(r"[&;?\s]", whole)
            for part in [whole, *parts, *(part.partition("=")[2] for part in parts)]:
                if len(part) >= _SHORTEST_SECRET and not part.startswith(("http", "core.windows.net")):
                    yield part


def read_connection(path: Path, name: str) -> Connection:
    """Read a connection from a file, which may be a pipe, in the JSON form that Airflow has for `AIRFLOW_CONN_*`.

    Args:
        path: The file.
        name: The connection's, for errors.

    Raises:
        BadInput: The file is not there, or is of another form; no message repeats any of it.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        extra = fields.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
        texts = {key: str(fields.get(key) or "") for key in ("host", "login", "password")}
        return Connection(**texts, extra=dict(extra))
    except OSError as error:
        raise BadInput(f"data.connection = {name!r}: --credentials {path} cannot be read: {error.strerror}") from None
    except (ValueError, AttributeError, TypeError):
        raise BadInput(
            f"data.connection = {name!r}: --credentials {path} must be JSON as Airflow has a connection: "
            '{"conn_type": …, "host": …, "login": …, "password": …, "extra": {…}}'
        ) from None


def _spell(secret: str) -> set[str]:
    """Return a secret as URLs and logs may have it."""
    plain = unquote(secret)
    forms = {secret, plain, secret.rstrip("="), quote(plain), quote(plain, safe="")}
    return {form for form in {*forms, *(re.sub("%..", lambda at: at[0].lower(), form) for form in forms)} if form}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value
        if value.lstrip().startswith("{"):  # Google's keyfile, as text
            try:
                yield from _texts(json.loads(value))
            except ValueError:
                return
