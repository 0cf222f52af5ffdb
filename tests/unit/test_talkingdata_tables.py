"""The tables that `make talkingdata` makes up: their schema, their shape, and the signal that is planted in them."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pandas as pd
import pytest
from talkingdata_pandas import make_set, read_tables

sys.path.insert(0, str(Path(__file__).parents[2] / "local"))
from talkingdata import GROUPS, Shape, main, write_tables

ROWS = 800
COLUMNS = {
    "gender_age_train": ["device_id", "gender", "age", "group"],
    "phone_brand_device_model": ["device_id", "phone_brand", "device_model"],
    "events": ["event_id", "device_id", "timestamp", "longitude", "latitude"],
    "app_events": ["event_id", "app_id", "is_installed", "is_active"],
    "app_labels": ["app_id", "label_id"],
    "label_categories": ["label_id", "category"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("talkingdata")
    write_tables(made, ROWS)
    return made


@pytest.fixture(scope="module")
def tables(folder):
    return read_tables(folder)


def test_the_full_shape_is_that_of_the_real_tables():
    full = Shape.of(74_645)
    assert full == Shape()
    assert full.rows + full.other_devices + full.duplicates == 187_245
    assert full.with_events + full.other_with_events == 60_865


def test_columns_and_counts(tables):
    shape = Shape.of(ROWS)
    assert {name: list(table.columns) for name, table in tables.items()} == COLUMNS
    counts = {name: len(table) for name, table in tables.items()}
    phones = shape.rows + shape.other_devices + shape.duplicates
    assert counts == {
        "gender_age_train": ROWS, "phone_brand_device_model": phones, "events": shape.events,
        "app_events": shape.app_events, "app_labels": shape.app_labels, "label_categories": shape.labels,
    }  # fmt: skip
    assert tables["events"]["device_id"].nunique() == shape.with_events + shape.other_with_events
    assert tables["app_labels"]["app_id"].nunique() == shape.labelled
    assert tables["app_events"]["app_id"].nunique() <= shape.apps


def test_keys_match_as_in_the_real_tables(tables):
    rows, phones = tables["gender_age_train"], tables["phone_brand_device_model"]
    assert rows["device_id"].is_unique
    assert rows["device_id"].isin(phones["device_id"]).all()
    assert rows["device_id"].isin(tables["events"]["device_id"]).mean() == pytest.approx(0.312, abs=0.001)
    assert not tables["events"]["device_id"].isin(phones["device_id"]).all()
    assert tables["app_events"]["event_id"].isin(tables["events"]["event_id"]).all()
    assert not tables["app_events"]["app_id"].isin(tables["app_labels"]["app_id"]).all()
    twice = phones[phones["device_id"].duplicated(keep=False)].groupby("device_id")["device_model"].nunique()
    assert len(twice) == Shape.of(ROWS).duplicates
    assert (phones["phone_brand"].str.contains("[一-龥]")).any()


def test_groups_follow_gender_and_age(tables):
    rows = tables["gender_age_train"]
    assert set(rows["group"]) == set(GROUPS)
    assert (rows["group"].str[0] == rows["gender"]).all()
    assert rows.groupby("group")["age"].agg(["min", "max"]).loc["F33-42"].between(33, 42).all()


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    digests = []
    for seed in (1, 1, 2):
        write_tables(tmp_path, 200, seed)
        content = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("*.csv")))
        digests.append(hashlib.sha256(content).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_what_is_planted_tells_gender_and_age(tables):
    rows = tables["gender_age_train"].set_index("device_id")
    used = make_set("category_used", tables).join(rows[["gender", "age"]])
    female, young = used["gender"] == "F", used["age"] <= 26
    share = used.groupby(female)["category_used:Cosmetics"].mean()
    assert share[True] > share[False] + 0.3
    assert used.groupby(young)["category_used:Comics"].mean().diff().iloc[-1] > 0.3
    hours = make_set("hour", tables).join(rows["age"])
    night = hours[["hour:0", "hour:1", "hour:2"]].sum(axis=1)
    assert night[hours["age"] <= 26].mean() > 0.3 > 0.05 > night[hours["age"] > 26].mean()
    brand = make_set("phone", tables).join(rows["gender"]).groupby("gender")[["brand:OPPO", "brand:魅族"]].mean()
    assert brand.loc["F", "brand:OPPO"] > 1.5 * brand.loc["M", "brand:OPPO"]
    assert brand.loc["M", "brand:魅族"] > 1.5 * brand.loc["F", "brand:魅族"]


def test_too_few_rows_are_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["talkingdata.py", "--rows", "20", "--folder", str(tmp_path / "out")])
    assert main() == 2
    assert capsys.readouterr().err.startswith("ROWS = 20: must be at least 200")
    assert not (tmp_path / "out").exists()


def test_ids_are_whole_numbers_of_64_bits(tables):
    assert tables["events"]["device_id"].dtype == "int64"
    assert tables["app_events"]["app_id"].abs().max() > 2**53
    assert pd.api.types.is_datetime64_any_dtype(tables["events"]["timestamp"])
