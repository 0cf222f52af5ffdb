"""TalkingData's features: equal to those of pandas, fitted on train rows, refused where tables come apart."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import talkingdata_pandas
from pyspark.sql import functions as F

from retune.errors import BadInput
from retune.features import talkingdata
from retune.features.base import FEATURES
from retune.features_section import FEATURE_SETS, TalkingDataFeatures

ALL = TalkingDataFeatures(pipeline="talkingdata")
BIG = 2**62  # ids beyond what a double can tell apart


def small_tables() -> talkingdata_pandas.Tables:
    """Devices 1 to 6 (6 without events and phone, 5 without events), 7 and 8 of no group; 8 has no phone."""
    device = [BIG + n for n in range(9)]
    phones = [
        (1, "小米", "红米note"), (2, "三星", "Galaxy S4"), (2, "三星", "Galaxy S4"), (3, "OPPO", "R7"),
        (3, "vivo", "X5"), (4, "小米", None), (5, "锤子", "T1"), (7, "HTC", "One"),
    ]  # fmt: skip
    times = ["2016-05-01 00:55:25", "2016-05-01 23:00:00", "2016-05-02 00:10:00", "2016-05-02 00:20:00",
             "2016-05-04 12:00:00", "2016-05-07 07:59:59", "2016-05-07 08:00:00", "2016-05-01 01:00:00"]  # fmt: skip
    whose = [1, 1, 1, 2, 2, 3, 4, 7]
    app_events = [(1, 1), (1, 2), (2, 1), (3, 3), (4, 1), (4, 4), (5, -5), (6, 2), (8, 9), (99, 1)]
    labels = [(1, 10), (1, 11), (1, 11), (2, 11), (2, 12), (3, 13), (9, 10), (4, 14), (70, 10)]
    categories = [(10, 'Games, "free"'), (11, "游戏"), (12, "游戏"), (13, None), (14, "Comics")]
    return {
        "gender_age_train": pd.DataFrame(
            {"device_id": device[1:7], "gender": list("FMFMFM"), "age": range(20, 26), "group": list("abcabc")}
        ),
        "phone_brand_device_model": pd.DataFrame(
            [(device[n], brand, model) for n, brand, model in phones],
            columns=["device_id", "phone_brand", "device_model"],
        ).astype({"phone_brand": object, "device_model": object}),
        "events": pd.DataFrame(
            {"event_id": range(1, 9), "device_id": [device[n] for n in whose], "timestamp": pd.to_datetime(times)}
        ),
        "app_events": pd.DataFrame([(e, BIG + a) for e, a in app_events], columns=["event_id", "app_id"]),
        "app_labels": pd.DataFrame([(BIG + a, b) for a, b in labels], columns=["app_id", "label_id"]),
        "label_categories": pd.DataFrame(categories, columns=["label_id", "category"]).astype({"category": object}),
    }


def on_spark(spark, tables, section=ALL):
    """Rows and the other tables, as ingest gives them."""
    made = {}
    for name, columns in section.tables.items():
        schema = ", ".join(f"`{column}` {kind.replace('timestamp', 'string')}" for column, kind in columns.items())
        rows = tables[name][list(columns)].astype({c: str for c in columns if c == "timestamp"}).astype(object)
        frame = spark.createDataFrame(rows.where(rows.notna(), None).values.tolist(), schema)
        made[name] = frame.select(*[F.col(f"`{column}`").cast(kind) for column, kind in columns.items()])
    return made.pop("gender_age_train"), made


def prepared(spark, tables=None, section=ALL):
    rows, others = on_spark(spark, tables or small_tables(), section)
    return talkingdata.prepare(rows, section, others)


@pytest.fixture(scope="module")
def whole(spark):
    """All bags of the small tables."""
    return prepared(spark).cache()


def as_frame(rows, fitted):
    """The vectors, a row a device, a column a slot."""
    found = fitted.transform(rows).select("device_id", FEATURES).collect()
    names = [slot for feature in fitted.features for slot in feature.slots]
    return pd.DataFrame([row[FEATURES].toArray() for row in found], [row.device_id for row in found], names)


def assert_equal_to_pandas(found, tables, sets):
    assert len(found)
    for name in sets:
        wanted = talkingdata_pandas.make_set(name, tables)
        mine = [slot for slot in found.columns if slot.partition(":")[0] in {name, *talkingdata._BAGS.get(name, ())}]
        wanted = wanted.reindex(index=found.index, columns=wanted.columns.union(mine)).fillna(0.0)
        assert set(mine) <= set(wanted.columns[(wanted != 0).any()])
        np.testing.assert_allclose(found[mine], wanted[mine], rtol=0, atol=1e-9)


def test_all_sets_are_equal_to_those_of_pandas(whole):
    tables = small_tables()
    found = as_frame(whole, talkingdata.fit(whole, ALL, []))
    assert list(found.index.sort_values()) == [BIG + n for n in range(1, 7)]
    assert_equal_to_pandas(found, tables, FEATURE_SETS)
    assert found.shape[1] == sum(talkingdata_pandas.make_set(name, tables).shape[1] for name in FEATURE_SETS)


def test_a_device_without_events_has_zeros_and_one_without_anything_has_none_but_zeros(whole):
    found = as_frame(whole, talkingdata.fit(whole, ALL, []))
    assert list(found.columns[found.loc[BIG + 5] != 0]) == ["brand:锤子", "model:T1"]
    assert not found.loc[BIG + 6].any()


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_each_set_can_be_had_alone(spark, name):
    section = TalkingDataFeatures(pipeline="talkingdata", sets=[name])
    rows = prepared(spark, section=section)
    found = as_frame(rows, talkingdata.fit(rows, section, []))
    assert {column.partition(":")[0] for column in found} == set(talkingdata._BAGS.get(name, (name,)))
    assert_equal_to_pandas(found, small_tables(), [name])


def test_names_that_train_rows_lack_have_no_slot_and_change_no_fraction(whole):
    fitted = talkingdata.fit(whole.where(F.col("device_id") != BIG + 2), ALL, [])
    found = as_frame(whole, fitted)
    assert f"app:{BIG + 4}" not in found
    assert "brand:三星" not in found
    assert found.loc[BIG + 2, f"app:{BIG + 1}"] == pytest.approx(1 / 3)  # of 1, 4 and -5
    assert_equal_to_pandas(found, small_tables(), FEATURE_SETS)


def test_what_tells_the_target_is_no_feature(whole):
    fitted = talkingdata.fit(whole, ALL, [])
    assert {feature.name for feature in fitted.features} == {
        "brand", "model", "weekday", "hour", "weekday_hour", "app", "label", "category", "category_used"
    }  # fmt: skip


def test_devices_with_several_phones_are_counted_and_have_the_first_by_name(spark, caplog):
    with caplog.at_level(logging.WARNING):
        rows = prepared(spark)
    assert "2 devices are there more than once, 1 of them with different phones" in caplog.text
    phones = {row.device_id - BIG: (row.brand, row.model) for row in rows.collect()}
    assert phones[2] == ({"三星": 1.0}, {"Galaxy S4": 1.0})
    assert phones[3] == ({"OPPO": 1.0}, {"R7": 1.0})
    assert phones[4] == ({"小米": 1.0}, {})


def test_values_do_not_hang_on_the_order_of_rows(spark, whole):
    turned = {name: table.iloc[::-1] for name, table in small_tables().items()}
    first, second = (rows.orderBy("device_id").collect() for rows in (whole, prepared(spark, turned)))
    assert [row.asDict() for row in first] == [row.asDict() for row in second]


def test_a_device_of_several_rows_is_refused(spark):
    tables = small_tables()
    tables["gender_age_train"] = pd.concat([tables["gender_age_train"]] * 2)
    with pytest.raises(BadInput, match=f"^gender_age_train: device_id {BIG + 1} has 2 rows"):
        prepared(spark, tables)


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        ("phone_brand_device_model", "device_id", "^device_id: no value of it in gender_age_train is in phone_brand_"),
        ("events", "device_id", "^device_id: no value of it in gender_age_train is in events; "),
        (
            "app_events",
            "event_id",
            "^event_id: no value of it in events .* is in app_events; ",
        ),
        ("app_labels", "app_id", "^app_id: no value of it in app_events .* is in app_labels; "),
        ("label_categories", "label_id", "^label_id: no value of it in app_labels .* is in label_categories; "),
    ],
)
def test_a_key_that_matches_nothing_is_refused_with_both_tables(spark, table, key, message):
    tables = small_tables()
    tables[table][key] = -1 - np.arange(len(tables[table]))
    with pytest.raises(BadInput, match=message):
        prepared(spark, tables)


def test_train_rows_without_any_name_are_refused(whole):
    with pytest.raises(BadInput, match=r"^features\.sets: no device of the train rows has anything of phone, "):
        talkingdata.fit(whole.where(F.col("device_id") == BIG + 6), ALL, [])


def test_a_bag_that_train_rows_lack_is_left_out_with_the_reason(whole):
    fitted = talkingdata.fit(whole.where(F.col("device_id") == BIG + 5), ALL, [])
    assert [feature.name for feature in fitted.features] == ["brand", "model"]
    assert fitted.left_out["app"] == "no train row has any"
