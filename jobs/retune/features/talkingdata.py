"""Features of TalkingData: what a phone and its events tell of the person who uses it.

Each set of features becomes a bag: a column `map<string,double>`, name → value, of what the device has (the phone: two
bags). Bags hang on the device alone, so they are the raw columns of the whole model; which names have a slot in the
vector is fitted on train rows. A name that train rows lack has none, and changes no other value.

| set | bags | value of a name |
|---|---|---|
| phone | brand, model | 1 |
| weekday, hour, weekday_hour | the same | fraction of the device's events; Monday is 0, hours are the session's |
| app | app | fraction of the device's app events |
| label | label | fraction of the device's pairs of an app event and a label of its app |
| category | category | the same for pairs of an app event and a label with a category, by its text |
| category_used | category_used | 1 |

Devices without events have empty bags. Data are aggregated to counts by device and app before labels are joined, which
makes of 32 million app events some hundred thousand rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import reduce

from pyspark import StorageLevel
from pyspark.ml import PipelineModel
from pyspark.ml.linalg import SparseVector, VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from retune.errors import BadInput
from retune.features.base import BAG, FEATURES, Feature
from retune.features_section import ROWS_TABLE, FeatureSet, TalkingDataFeatures
from retune.spark import quote

log = logging.getLogger(__name__)
_PHONES = "phone_brand_device_model"
_BAGS: dict[FeatureSet, tuple[str, ...]] = {"phone": ("brand", "model")}  # other sets have one, of their name
_WITHOUT_TOTAL = ("brand", "model", "category_used")
_PAIRS = ("app_events", "app_labels", "label_categories")  # of two keys, or a key and a name: one alone says nothing
# How tables hang together, each by a key that it shares with the ones before.
_CHAIN = (("events", "device_id"), ("app_events", "event_id"), ("app_labels", "app_id"), ("label_categories", "label_id"))  # fmt: skip  # noqa: E501


def prepare(rows: DataFrame, section: TalkingDataFeatures, tables: Mapping[str, DataFrame]) -> DataFrame:
    """Add a column for each bag, never null; see `FeaturePipeline`.

    Raises:
        BadInput: A device has several rows, or a key by which tables are joined matches nothing.
    """
    _check_devices(rows)
    # Filtered here, the same counts are the same to Spark wherever they are joined, and it shuffles them once.
    pairs = {name: tables[name].dropna(subset=list(section.tables[name])) for name in _PAIRS if name in tables}
    tables = {ROWS_TABLE: rows.select("device_id"), **tables, **pairs}
    bags = _bags_of(section)
    counts = reduce(DataFrame.unionByName, [frame for each in section.sets for frame in _count(each, tables)])
    collected = _collect(counts, bags).persist(StorageLevel.MEMORY_AND_DISK)
    _check_matches(collected, bags, tables)
    filled = [F.coalesce(F.col(bag), F.create_map().cast(BAG)).alias(bag) for bag in bags]
    return rows.join(collected, "device_id", "left").select(*[quote(name) for name in rows.columns], *filled)


def fit(train: DataFrame, section: TalkingDataFeatures, not_features: list[str]) -> Vocabulary:  # noqa: ARG001
    """Learn which names there are; see `FeaturePipeline`."""
    bags = _bags_of(section)
    names: dict[str, list[str]] = {bag: [] for bag in bags}
    found = F.explode(F.concat(*map(_names_of, bags))).alias("found")
    for row in train.select(found).select("found.*").distinct().collect():
        names[row["bag"]].append(row["name"])
    features = [Feature(bag, "bag", BAG, sorted(values)) for bag, values in names.items() if values]
    if not features:
        raise BadInput(f"features.sets: no device of the train rows has anything of {', '.join(section.sets)}")
    return Vocabulary(features, {bag: "no train row has any" for bag, values in names.items() if not values})


class Vocabulary:
    """The names of train rows, a slot each; see `FittedFeatures`."""

    pipeline: PipelineModel | None = None  # Spark has no stage that makes vectors of maps

    def __init__(self, features: list[Feature], left_out: dict[str, str]) -> None:
        self.features, self.left_out = features, left_out

    def transform(self, rows: DataFrame) -> DataFrame:
        """Add the vectors, sparse ones; see `FittedFeatures`."""
        indexes: list[dict[str, int]] = []
        width = 0
        for feature in self.features:
            indexes.append({name: width + number for number, name in enumerate(feature.values)})
            width += len(feature.values)

        def vectorize(*bags: dict[str, float]) -> SparseVector:
            known = zip(indexes, bags, strict=True)
            return SparseVector(width, {i[name]: x for i, bag in known for name, x in bag.items() if name in i})

        return rows.withColumn(FEATURES, F.udf(vectorize, VectorUDT())(*[feature.name for feature in self.features]))


def _bags_of(section: TalkingDataFeatures) -> list[str]:
    return [bag for each in section.sets for bag in _BAGS.get(each, (each,))]


def _names_of(bag: str) -> Column:
    return F.transform(F.map_keys(bag), lambda name: F.struct(F.lit(bag).alias("bag"), name.alias("name")))


def _check_devices(rows: DataFrame) -> None:
    twice = rows.groupBy("device_id").count().where("count > 1").orderBy("device_id").limit(1).collect()
    if twice:
        raise BadInput(
            f"{ROWS_TABLE}: device_id {twice[0]['device_id']} has {twice[0]['count']} rows, but each device is one; "
            "leave one of them in the data"
        )


def _count(each: FeatureSet, tables: Mapping[str, DataFrame]) -> Iterator[DataFrame]:
    """Give the counts of a set's bags: `device_id`, `bag`, `name`, `count`; a row a name."""
    if each == "phone":
        phones = _one_phone_each(tables)
        for bag, column in (("brand", "phone_brand"), ("model", "device_model")):
            yield _long(phones.where(F.col(column).isNotNull()), bag, F.col(column), F.lit(1))
    elif each in ("weekday", "hour", "weekday_hour"):
        weekday, hour = F.weekday("timestamp").cast("string"), F.hour("timestamp").cast("string")
        name = {"weekday": weekday, "hour": hour, "weekday_hour": F.concat_ws(" ", weekday, hour)}[each]
        events = _events(tables).where("timestamp IS NOT NULL")
        yield _long(events.groupBy("device_id", name.alias("name")).count(), each, F.col("name"))
    elif each == "app":
        yield _long(_app_counts(tables), each, F.col("app_id"))
    elif each == "label":
        yield _long(_label_counts(tables), each, F.col("label_id"))
    else:
        texts = tables["label_categories"].distinct()
        pairs = _label_counts(tables).join(texts, "label_id").groupBy("device_id", "category")
        counts = pairs.agg(F.sum("count").alias("count"))
        yield _long(counts, each, F.col("category"), F.lit(1) if each == "category_used" else F.col("count"))


def _long(counts: DataFrame, bag: str, name: Column, count: Column | None = None) -> DataFrame:
    how_many = (F.col("count") if count is None else count).cast("bigint")
    return counts.select(
        "device_id", F.lit(bag).alias("bag"), name.cast("string").alias("name"), how_many.alias("count")
    )


def _one_phone_each(tables: Mapping[str, DataFrame]) -> DataFrame:
    """Return one phone a device: of several the first by brand and model, unknown ones last: on no order."""
    columns = ("phone_brand", "device_model")
    phone = F.struct(*[part for name in columns for part in (F.isnull(name).alias(f"no {name}"), F.col(name))])
    found = tables[_PHONES].groupBy("device_id").agg(
        F.count("*").alias("rows"), F.min(phone).alias("first"), F.max(phone).alias("last")
    )  # fmt: skip
    twice = (
        found.where("rows > 1").agg(F.count("*").alias("all"), F.expr("count_if(first != last)").alias("other")).first()
    )
    assert twice is not None
    if twice["all"]:
        message = "%s: %d devices are there more than once, %d of them with different phones; the first by name counts"
        log.warning(message, _PHONES, twice["all"], twice["other"])
    return found.join(tables[ROWS_TABLE], "device_id", "left_semi").select(
        "device_id", *[f"first.{name}" for name in columns]
    )


def _events(tables: Mapping[str, DataFrame]) -> DataFrame:
    return tables["events"].join(tables[ROWS_TABLE], "device_id", "left_semi")


def _app_counts(tables: Mapping[str, DataFrame]) -> DataFrame:
    """Return how many app events a device has of an app: `device_id`, `app_id`, `count`."""
    events = _events(tables).select("event_id", "device_id")
    return (
        tables["app_events"]
        .select("event_id", "app_id")
        .join(events, "event_id")
        .groupBy("device_id", "app_id")
        .count()
    )


def _label_counts(tables: Mapping[str, DataFrame]) -> DataFrame:
    """Return how many pairs of an app event and a label a device has of a label: `device_id`, `label_id`, `count`."""
    pairs = _app_counts(tables).join(tables["app_labels"].select("app_id", "label_id").distinct(), "app_id")
    return pairs.groupBy("device_id", "label_id").agg(F.sum("count").alias("count"))


def _collect(counts: DataFrame, bags: list[str]) -> DataFrame:
    """Return each device's bags: `device_id` and a column each, empty where it has no name."""
    mine = {bag: F.col("bag") == bag for bag in bags}
    lists = [F.sort_array(F.collect_list(F.when(mine[bag], F.struct("name", "count")))).alias(bag) for bag in bags]
    totals = [F.sum(F.when(mine[bag], F.col("count"))).alias(f"{bag} total") for bag in bags]
    return counts.groupBy("device_id").agg(*lists, *totals).select("device_id", *[_as_map(bag) for bag in bags])


def _as_map(bag: str) -> Column:
    total = F.lit(1.0) if bag in _WITHOUT_TOTAL else F.col(f"{bag} total")
    shares = F.transform(bag, lambda each: F.struct(each["name"], each["count"] / total))
    return F.map_from_entries(shares).cast(BAG).alias(bag)


def _check_matches(collected: DataFrame, bags: list[str], tables: Mapping[str, DataFrame]) -> None:
    """Check that each bag has something of some device, and else tell at which key the tables come apart."""
    found = collected.agg(*[F.max(F.size(bag)).alias(bag) for bag in bags]).first()
    assert found is not None
    empty = [bag for bag in bags if not found[bag]]
    if not empty:
        return
    if _PHONES in tables and tables[_PHONES].join(tables[ROWS_TABLE], "device_id", "left_semi").isEmpty():
        raise BadInput(_no_match("device_id", ROWS_TABLE, _PHONES))
    known, last = tables[ROWS_TABLE], ROWS_TABLE
    for name, key in _CHAIN:
        if name not in tables:
            break
        known = tables[name].join(known.select(key), key, "left_semi")
        if known.isEmpty():
            raise BadInput(_no_match(key, last, name))
        last = name
    raise BadInput(
        f"features.sets: no device of {ROWS_TABLE} has anything of {', '.join(empty)}: the columns are empty"
    )


def _no_match(key: str, left: str, right: str) -> str:
    of_them = "" if left == ROWS_TABLE else f" that belongs to a device of {ROWS_TABLE}"
    return (
        f"{key}: no value of it in {left}{of_them} is in {right}; do the two tables belong together, "
        "and is it read as the same type in both?"
    )
