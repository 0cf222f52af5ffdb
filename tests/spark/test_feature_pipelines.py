"""What featurize relies on, whichever pipeline makes the features."""

from __future__ import annotations

import pytest
from pyspark.sql import functions as F
from pyspark.testing.utils import assertDataFrameEqual
from spark.test_talkingdata import on_spark, small_tables

from retune.data.splits import LABEL
from retune.features import load_features
from retune.features.base import FEATURES
from retune.features_section import TabularFeatures, TalkingDataFeatures


@pytest.fixture(scope="module", params=["tabular", "talkingdata"])
def case(request, spark, numbered):
    """A pipeline, its section, rows as ingest and the splits leave them, and the other tables."""
    if request.param == "tabular":
        rows, section, tables = numbered, TabularFeatures(), {}
    else:
        section = TalkingDataFeatures(pipeline="talkingdata", sets=["phone", "hour"])
        rows, tables = on_spark(spark, small_tables(), section)
    return load_features(request.param), section, rows.withColumn(LABEL, F.lit(1.0)), tables


def test_rows_keep_their_number_and_columns_and_get_one_slot_for_each_name(case):
    pipeline, section, rows, tables = case
    prepared = pipeline.prepare(rows, section, tables)
    assertDataFrameEqual(prepared.select(*rows.columns), rows)
    fitted = pipeline.fit(prepared.where(F.col(rows.columns[0]) % 2 == 0), section, [LABEL])
    vectors = fitted.transform(prepared)
    assertDataFrameEqual(vectors.select(*rows.columns), rows)
    names = [slot for feature in fitted.features for slot in feature.slots]
    assert {row[FEATURES].size for row in vectors.select(FEATURES).collect()} == {len(names)}
    assert len(set(names)) == len(names)
    assert LABEL not in names
    raw = {field.name: field.dataType.simpleString() for field in prepared.schema}
    assert all(raw[feature.name] == feature.type for feature in fitted.features)
