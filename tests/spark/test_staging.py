"""The way of blobs to Spark: fetched once a version, unpacked, and never counted before they are whole."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from blob_servers import web_server

from retune.data.staging import Staging, summarize, unpack, unpack_at
from retune.data.stores import Store
from retune.data_section import HttpData
from retune.errors import BadInput, RetuneError

TABLES = {"rows": "rows.csv", "events": "events.csv.zip"}


def zipped(**files: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return target.getvalue()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "rows.csv").write_text("x,y\n1,2\n")
    (folder / "events.csv.zip").write_bytes(zipped(**{"events.csv": "e\n1\n", "__MACOSX/._events.csv": "?"}))
    with web_server(folder) as (url, requests):
        yield folder, url, requests


@pytest.fixture
def build_staging(spark, tmp_path, served):
    def build() -> Staging:
        tables = {name: f"{served[1]}/{file}" for name, file in TABLES.items()}
        store = Store(HttpData.model_validate({"source": "http", "tables": tables, "target": "y"}), None)
        return Staging(spark, store, "here", f"file://{tmp_path}/kept", f"file://{tmp_path}/passing")

    return build


def bodies(requests: list[str]) -> list[str]:
    return [request.split()[1] for request in requests if request.startswith('"GET')]


def text_of(uri: str) -> str:
    return Path(uri.removeprefix("file://")).read_text()


def test_a_blob_is_fetched_once_for_each_of_its_versions(build_staging, served):
    folder, _, requests = served
    staged = [build_staging().stage(table)[0] for table in TABLES]
    assert [text_of(each.uri) for each in staged] == ["x,y\n1,2\n", "e\n1\n"]
    assert [each.uri.rsplit("/", 1)[1] for each in staged] == ["blob.csv", "blob.csv"]
    assert bodies(requests) == ["/rows.csv", "/events.csv.zip"]
    again = [build_staging().stage(table)[0] for table in TABLES]
    assert again == [replace(each, fetched=False) for each in staged]
    assert len(bodies(requests)) == 2
    assert summarize(again) == "0 of 2 blobs fetched (0.0 MB); the others did not change"
    (folder / "rows.csv").write_text("x,y\n1,2\n3,4\n")
    changed = build_staging().stage("rows")[0]
    assert changed.fetched
    assert text_of(changed.uri) == "x,y\n1,2\n3,4\n"
    assert text_of(staged[0].uri) == "x,y\n1,2\n"


@pytest.mark.parametrize("name", ["w[1].csv", "{b}.csv", "_h.csv", "co:lon.csv", "a b.csv"])
def test_spark_reads_a_blob_of_any_name(spark, served, tmp_path, name):
    folder, url, _ = served
    (folder / name).write_text("x,y\n1,2\n")
    data = HttpData.model_validate({"source": "http", "path": f"{url}/{quote(name)}", "target": "y"})
    staging = Staging(spark, Store(data, None), "here", f"file://{tmp_path}/kept", f"file://{tmp_path}/passing")
    (staged,) = staging.stage("data")
    assert spark.read.csv(staged.uri, header=True).count() == 1


def test_a_blob_that_changes_while_it_is_read_does_not_count(build_staging, served, monkeypatch, tmp_path):
    fetch = Store.fetch

    def overtaken(self: Store, table: str, blob, target: Path) -> None:
        (served[0] / "rows.csv").write_text("x,y\n3,4\n")
        os.utime(served[0] / "rows.csv", (1, 1))
        fetch(self, table, blob, target)

    monkeypatch.setattr(Store, "fetch", overtaken)
    with pytest.raises(RetuneError, match=r"rows: .*rows.csv changed while it was read; try again"):
        build_staging().stage("rows")
    assert [path for path in tmp_path.glob("kept/**/*") if path.is_file()] == []


def test_half_a_download_never_counts(build_staging, monkeypatch, tmp_path):
    fetch = Store.fetch

    def cut_off(self: Store, table: str, blob, target: Path) -> None:
        fetch(self, table, blob, target)
        target.write_bytes(target.read_bytes()[:3])
        raise RetuneError("the connection was lost")

    monkeypatch.setattr(Store, "fetch", cut_off)
    with pytest.raises(RetuneError, match="lost"):
        build_staging().stage("rows")
    assert [path for path in tmp_path.glob("kept/**/*") if path.is_file()] == []
    monkeypatch.setattr(Store, "fetch", fetch)
    (staged,) = build_staging().stage("rows")
    assert staged.fetched
    assert text_of(staged.uri) == "x,y\n1,2\n"


def test_a_copy_that_was_cut_off_never_counts(build_staging, monkeypatch):
    from retune.data import staging

    def killed(spark, path: str, uri: str) -> str:
        copied = copy(spark, path, uri)
        raise KeyboardInterrupt(copied)

    copy = staging.copy_from_local
    monkeypatch.setattr(staging, "copy_from_local", killed)
    with pytest.raises(KeyboardInterrupt):
        build_staging().stage("rows")
    monkeypatch.setattr(staging, "copy_from_local", copy)
    assert build_staging().stage("rows")[0].fetched


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (zipped(a="1", b="2"), r"events: a zip must hold one file, but this one holds 2 \(a, b\)"),
        (zipped(), r"events: a zip must hold one file, but this one holds 0 \(nothing\)"),
        (b"x,y\n1,2\n", "events: is no zip that can be read"),
    ],
)
def test_a_zip_holds_one_file(tmp_path, body, message):
    (tmp_path / "events.csv.zip").write_bytes(body)
    with pytest.raises(BadInput, match=message):
        unpack(tmp_path / "events.csv.zip", "events")


@pytest.mark.parametrize("name", ["rows.zip", "my.rows.zip"])
def test_what_is_in_a_zip_goes_by_its_own_name_where_that_of_the_zip_tells_nothing(tmp_path, name):
    (tmp_path / name).write_bytes(zipped(**{"../of/2026.csv": "x\n1\n"}))
    file = unpack(tmp_path / name, "rows")
    assert file.suffix == ".csv"
    assert file.parent == tmp_path
    assert file.read_text() == "x\n1\n"


def test_a_zip_on_a_file_system_of_spark_is_unpacked(spark, tmp_path):
    (tmp_path / "rows.csv.zip").write_bytes(zipped(rows="x\n1\n"))
    uri = unpack_at(spark, f"file://{tmp_path}/rows.csv.zip", f"file://{tmp_path}/unpacked")
    assert uri.endswith("-rows.csv")
    assert text_of(uri) == "x\n1\n"
