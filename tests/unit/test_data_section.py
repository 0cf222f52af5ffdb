"""The section `data`: every source's form, the ways to write it, and what a wrong one is told."""

import pytest
from pydantic import TypeAdapter, ValidationError
from unit.experiments import GOOD, write_experiment

from retune.data_section import Data
from retune.experiment_file import read_experiment
from retune.mistakes import ExperimentError

AZURE = {"source": "azure_blob", "account": "me3", "container": "rows", "path": "a/b.csv", "target": "y"}


def parse(**fields):
    return TypeAdapter(Data).validate_python({"target": "y", **fields})


@pytest.mark.parametrize("scheme", ["wasb", "wasbs", "abfs", "abfss"])
def test_a_uri_of_azure_names_account_and_container(scheme):
    host = "blob" if scheme.startswith("wasb") else "dfs"
    uri = f"{scheme}://rows@me3.{host}.core.windows.net/a/b.csv"
    assert parse(source="azure_blob", path=uri) == parse(**AZURE)


def test_a_uri_names_the_bucket():
    assert parse(source="s3", path="s3a://rows/a/*.csv") == parse(source="s3", bucket="rows", path="a/*.csv")
    assert parse(source="gcs", path="gs://rows/a.csv") == parse(source="gcs", bucket="rows", path="a.csv")


def test_uris_of_tables_name_the_container_too():
    uris = {name: f"wasbs://rows@me3.blob.core.windows.net/all/{name}.csv" for name in ("events", "apps")}
    paths = {"events": "all/events.csv", "apps": "all/apps.csv"}
    wanted = parse(source="azure_blob", account="me3", container="rows", tables=paths)
    assert parse(source="azure_blob", tables=uris) == wanted
    assert parse(source="azure_blob", tables={**paths, "apps": uris["apps"]}) == wanted


def test_what_people_call_it():
    assert parse(**AZURE).where == "azure_blob me3/rows/a/b.csv"
    assert parse(source="s3", bucket="rows", path="a.csv").where == "s3://rows/a.csv"
    assert parse(source="http", path="https://host/a.csv").where == "https://host/a.csv"
    tables = parse(source="gcs", bucket="rows", tables={"a": "a.csv", "b": "b.csv"})
    assert tables.where == "the tables a, b of gs://rows/"
    assert tables.field("b") == "data.tables.b = b.csv"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**AZURE, "path": "wasbs://other@me3.blob.core.windows.net/a.csv"}, "is not that of data.path, other"),
        (
            {"source": "s3", "tables": {"a": "s3://one/a.csv", "b": "s3://two/b.csv"}},
            "is not that of data.tables.b, two",
        ),
        ({**AZURE, "account": "Me"}, "should match pattern"),
        ({"source": "http", "path": "host/a.csv"}, "must be a URL, http:// or https://"),
        ({"source": "http", "path": "https://me:key@host/a.csv"}, "must not hold a password, key or token"),
        ({"source": "http", "path": "https://host/a.csv?sv=1&sig=abc"}, "must not hold a password, key or token"),
        ({"source": "http", "tables": {"a": "ftp://host/a.csv"}}, "must be a URL"),
        ({"source": "hdfs", "path": "/a.csv"}, "must be of the form hdfs://host:port/path"),
        ({"source": "file"}, "needs path, or tables"),
        ({"source": "file", "path": "a", "tables": {"a": "a"}}, "must not be given together"),
        ({"source": "file", "tables": {"a": "a"}, "types": {"x": "double"}}, "features.pipeline knows the types"),
        ({"source": "file", "path": "a", "types": {"x": "float"}}, "Input should be 'bigint', 'double'"),
        ({"source": "file", "path": "a", "max_bad_rows": -1}, "greater than or equal to 0"),
        ({"source": "file", "path": "a", "connection": "c"}, "Extra inputs"),
    ],
)
def test_a_wrong_one_is_told_its_rule(fields, message):
    with pytest.raises(ValidationError, match=message):
        parse(**fields)


def test_an_error_of_a_source_has_its_line(tmp_path):
    text = GOOD.replace("source: file", "source: hdfs")
    path = write_experiment(tmp_path, text)
    with pytest.raises(ExperimentError, match=rf"{path}:\d+: data.path = .*must be of the form hdfs://"):
        read_experiment(path)


def test_tables_need_a_pipeline_that_knows_them(tmp_path):
    text = GOOD.replace("path: data/flights.csv", "tables: {flights: data/flights.csv}")
    path = write_experiment(tmp_path, text)
    with pytest.raises(ExperimentError, match=r"data.tables: features.pipeline takes one table; give its path"):
        read_experiment(path)
