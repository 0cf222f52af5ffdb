"""The section `data` of an experiment file: where the rows come from."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from retune.section import Section, cross_error

SklearnDataset = Literal["breast_cancer", "california_housing", "diabetes", "digits", "iris", "wine"]
ColumnType = Literal["bigint", "double", "string", "boolean", "timestamp", "date"]
ROWS = "data"
"""What the only table is called, where there is no more than one."""

_ENDINGS = {
    ".csv": "csv", ".csv.gz": "csv", ".csv.bz2": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json",
    ".json.gz": "json", ".jsonl.gz": "json", ".ndjson.gz": "json", ".parquet": "parquet",
}  # fmt: skip
_SECRET_IN_URL = re.compile(
    r"(?i)^\w+://[^/]*:[^/]*@|^https?://[^/]*@"
    r"|[?&](sig|signature|password|code|(access_|api_|api)?(key|token)|x-amz-(signature|security-token))="
)


def form_by_name(name: str) -> str | None:
    """Return the form of a file, or of what a zip holds, by its name's ending; None if that tells none."""
    lower = name.lower().removesuffix(".zip")
    return next((form for ending, form in _ENDINGS.items() if lower.endswith(ending)), None)


class SklearnData(Section):
    """A data set of scikit-learn; all but california_housing ship with it."""

    source: Literal["sklearn"]
    dataset: SklearnDataset
    target: str = Field(min_length=1, description="The column to predict.")

    @property
    def where(self) -> str:
        """Where the rows come from, for people."""
        return f"sklearn {self.dataset}"


class StoredData(Section):
    """Files of rows: one table, or many with names."""

    source: str
    path: str | None = Field(
        None, min_length=1, description="A file, a folder or a glob; a relative local path starts at the file's folder."
    )
    tables: dict[str, Annotated[str, Field(min_length=1)]] | None = Field(
        None, min_length=1, description="In place of path, for feature pipelines of many tables: a path for each name."
    )
    format: Literal["csv", "parquet", "json"] | None = Field(
        None, description="json has an object a line. Default: by the path's ending, else Parquet."
    )
    types: dict[str, ColumnType] = Field(
        {}, description="Of columns: a row whose value cannot be read as one is a bad row. By default they are guessed."
    )
    max_bad_rows: int = Field(0, ge=0, description="Bad rows of a table are set aside; more than this fail the run.")
    target: str = Field(min_length=1, description="The column to predict.")

    @model_validator(mode="after")
    def _check_one_of(self) -> StoredData:
        if self.path is None and self.tables is None:
            raise ValueError("needs path, or tables")
        if self.path is not None and self.tables is not None:
            raise cross_error("data.tables", None, "path and tables must not be given together")
        if self.tables is not None and self.types:
            raise cross_error("data.types", None, "is for path; of many tables, features.pipeline knows the types")
        return self

    @field_validator("path", "tables")
    @classmethod
    def _check_secrets(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        for path in [value] if isinstance(value, str) else (value or {}).values():
            if _SECRET_IN_URL.search(path):
                raise ValueError("must not hold a password, key or token; put it into an Airflow connection")
        return value

    @property
    def paths(self) -> dict[str, str]:
        """The path of each table."""
        return self.tables or {ROWS: str(self.path)}

    @property
    def where(self) -> str:
        """Where the rows come from, for people."""
        if self.tables is None:
            return self.locate(str(self.path))
        root = self.locate("")
        return f"the tables {', '.join(self.tables)}" + (f" of {root}" if root else "")

    def locate(self, path: str) -> str:
        """Return what people call `path`, one of `paths`."""
        return path

    def field(self, table: str) -> str:
        """Return the field of the file that has the path of a table, and its value, as errors name them."""
        name = "data.path" if self.tables is None else f"data.tables.{table}"
        return f"{name} = {self.paths[table]}"


class FileData(StoredData):
    """Files that Spark reads where they are: on this machine, or on a Hadoop file system."""

    source: Literal["file", "hdfs"]

    @model_validator(mode="after")
    def _check_scheme(self) -> FileData:
        for path in self.paths.values() if self.source == "hdfs" else ():
            if not path.startswith("hdfs://"):
                raise cross_error("data.path", path, "must be of the form hdfs://host:port/path, for source hdfs")
        return self


class BlobData(StoredData):
    """Files in a store of blobs, which ingest fetches; those that did not change since are not fetched again."""

    connection: str | None = Field(
        None,
        min_length=1,
        description="The Airflow connection with the credentials. Default: what this machine or its environment is.",
    )

    _uri: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _split_uri(cls, data: Any) -> Any:
        """Let paths be URIs that name the container too."""
        if not isinstance(data, dict) or not cls._uri:
            return data
        data, tables = dict(data), data.get("tables")
        if isinstance(data.get("path"), str):
            data["path"] = cls._split(data, "data.path", data["path"])
        if isinstance(tables, dict):
            data["tables"] = {name: cls._split(data, f"data.tables.{name}", path) for name, path in tables.items()}
        return data

    @classmethod
    def _split(cls, data: dict[str, Any], field: str, path: Any) -> Any:
        """Return a path within the container; what else a URI says goes into `data`, and must be what it says."""
        match = re.match(cls._uri, path) if isinstance(path, str) else None
        if not match:
            return path
        named = match.groupdict()
        inner = named.pop("path")
        for name, value in named.items():
            if data.setdefault(name, value) != value:
                raise cross_error(f"data.{name}", data[name], f"is not that of {field}, {value}")
        return inner

    @model_validator(mode="after")
    def _check_paths(self) -> BlobData:
        for name, path in self.paths.items() if self.root else ():
            if "://" in path:
                raise cross_error(
                    "data.path" if self.tables is None else f"data.tables.{name}", path,
                    "must be a path within what the other fields name, or a URI of this source's form",
                )  # fmt: skip
        return self

    @property
    def root(self) -> str:
        """What a path of the store begins with."""
        return ""


class AzureBlobData(BlobData):
    """A container of Azure Blob Storage, or a file system of Data Lake Storage Gen2."""

    source: Literal["azure_blob"]
    account: str = Field(pattern=r"^[a-z0-9]{3,24}$", description="The storage account's name.")
    container: str = Field(pattern=r"^\$?[a-z0-9-]{3,63}$")

    _uri = r"^(?:wasbs?|abfss?)://(?P<container>[^@/]+)@(?P<account>[^./]+)\.[^/]+/(?P<path>.+)$"

    @property
    def root(self) -> str:
        """What a path of the store begins with."""
        return f"{self.container}/"

    def locate(self, path: str) -> str:
        """Return what people call a path; see `StoredData`."""
        return f"azure_blob {self.account}/{self.container}/{path}"


class BucketData(BlobData):
    """A bucket."""

    bucket: str = Field(min_length=1, pattern=r"^[^/]+$")

    @property
    def root(self) -> str:
        """What a path of the store begins with."""
        return f"{self.bucket}/"


class S3Data(BucketData):
    """A bucket of Amazon S3, or of a server that speaks its language."""

    source: Literal["s3"]

    _uri = r"^s3[an]?://(?P<bucket>[^/]+)/(?P<path>.+)$"

    def locate(self, path: str) -> str:
        """Return what people call a path; see `StoredData`."""
        return f"s3://{self.bucket}/{path}"


class GcsData(BucketData):
    """A bucket of Google Cloud Storage."""

    source: Literal["gcs"]

    _uri = r"^gs://(?P<bucket>[^/]+)/(?P<path>.+)$"

    def locate(self, path: str) -> str:
        """Return what people call a path; see `StoredData`."""
        return f"gs://{self.bucket}/{path}"


class HttpData(BlobData):
    """Files of a web server: a path is a URL, and names one file."""

    source: Literal["http"]

    @field_validator("path", "tables")
    @classmethod
    def _check_url(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        for url in [value] if isinstance(value, str) else (value or {}).values():
            if not url.startswith(("http://", "https://")):
                raise ValueError("must be a URL, http:// or https://, for source http")
        return value


Data = Annotated[SklearnData | FileData | AzureBlobData | S3Data | GcsData | HttpData, Field(discriminator="source")]
