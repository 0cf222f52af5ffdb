"""`make talkingdata`: six tables of the schema of Kaggle's TalkingData, made up, with a signal planted in them.

The data set itself may not be redistributed. With ROWS=74645 (training devices) the counts are those of the real
tables; with other ROWS all but small vocabularies scale in proportion. What tells a device's group:

- Apps. Four categories have apps of their own (`INTERESTS`). A device whose group shares the interest has some of them
  installed with a probability of 0.8, any other with 0.1.
- Hours. Of the events of people up to 26, 40 % are between 0 and 3 o'clock; of those from 32 on, 40 % from 5 to 7.
- Brands. A third of women has an OPPO or a vivo, a third of men a 小米 or a 魅族; a quarter of those from 32 on has a
  三星, whatever their gender.

All else (models, weekdays, places, further apps, labels and categories) is noise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from retune import settings

GROUPS = ("F23-", "F24-26", "F27-28", "F29-32", "F33-42", "F43+", "M22-", "M23-26", "M27-28", "M29-31", "M32-38", "M39+")  # fmt: skip  # noqa: E501
_OF_GROUP = np.array([5050, 4190, 3118, 4628, 5561, 4194, 7488, 9605, 5445, 7309, 9476, 8581])  # of the real rows
_AGES = [(14, 23), (24, 26), (27, 28), (29, 32), (33, 42), (43, 70), (14, 22), (23, 26), (27, 28), (29, 31), (32, 38), (39, 70)]  # fmt: skip  # noqa: E501
_FEMALE = np.array([name[0] == "F" for name in GROUPS])
_YOUNG = np.array([high <= 26 for _, high in _AGES])
_OLD = np.array([low >= 32 for low, _ in _AGES])
INTERESTS = {"Cosmetics": _FEMALE, "Military": ~_FEMALE, "Comics": _YOUNG, "Wealth management": _OLD}
_BRANDS = (
    "小米",
    "三星",
    "华为",
    "OPPO",
    "vivo",
    "魅族",
    "酷派",
    "联想",
    "金立",
    "HTC",
    "中兴",
    "乐视",
    "努比亚",
    "锤子",
)
_FULL = 74_645
_INSTALLED = 90  # apps of a device
_OF_INTEREST = 12  # apps of each category in `INTERESTS`
_CHUNK = 50_000  # events whose app events are made at once
_START = np.datetime64("2016-04-30T00:00:00")
_LEAST = 200


@dataclass(frozen=True)
class Shape:
    """How many there are of each; the defaults are the full shape."""

    rows: int = _FULL
    with_events: int = 23_309  # of the rows
    other_devices: int = 112_071  # with a phone, but without a group
    duplicates: int = 529  # device ids that the phones' table has twice
    other_with_events: int = 37_556  # of them 2,362 without a phone
    without_phone: int = 2_362
    events: int = 3_252_950
    with_apps: int = 1_188_000  # of the events
    app_events: int = 32_473_067
    apps: int = 19_237  # that events name
    unlabelled: int = 192  # of them
    labelled: int = 113_211
    app_labels: int = 459_943
    labels: int = 930
    brands: int = 131
    models: int = 1_599

    @classmethod
    def of(cls, rows: int) -> Shape:
        """Return the shape with so many rows."""
        full = cls()
        least = {"duplicates": 2, "apps": 300, "labelled": 600, "app_labels": 2400, "labels": 100, "brands": 30,
                 "models": 150}  # fmt: skip
        return cls(**{n: max(round(v * rows / _FULL), least.get(n, 1)) for n, v in vars(full).items()})


def main() -> int:
    arguments = _parse_arguments()
    if arguments.rows < _LEAST:
        print(f"ROWS = {arguments.rows}: must be at least {_LEAST}, for each group to have some", file=sys.stderr)
        return 2
    folder = Path(arguments.folder or settings.home() / "data" / "talkingdata")
    write_tables(folder, arguments.rows, arguments.seed)
    for path in sorted(folder.glob("*.csv")):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="local/talkingdata.py", description="Make up tables like TalkingData's.")
    parser.add_argument("--rows", type=int, default=2000, help=f"training devices; {_FULL} are the full shape")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--folder", help="by default data/talkingdata in RETUNE_HOME")
    return parser.parse_args()


def write_tables(folder: Path, rows: int, seed: int = 42) -> None:
    """Write the six tables as CSV; the same seed and rows, the same bytes.

    Args:
        folder: Where; made if it is not there. Files of the same names are overwritten.
        rows: Training devices, at least 200.
        seed: Of everything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape, draw = Shape.of(rows), np.random.default_rng(seed)
    count = shape.rows + shape.other_devices + shape.without_phone
    devices = _identifiers(draw, count)
    groups = draw.choice(len(GROUPS), count, p=_OF_GROUP / _OF_GROUP.sum())
    groups[: 3 * len(GROUPS)] = np.arange(3 * len(GROUPS)) % len(GROUPS)
    apps = _identifiers(draw, shape.labelled + shape.unlabelled)
    _write(folder, "gender_age_train", [_people(draw, devices[: shape.rows], groups[: shape.rows])])
    phones = slice(0, shape.rows + shape.other_devices)
    _write(folder, "phone_brand_device_model", [_phones(draw, shape, devices[phones], groups[phones])])
    _write(folder, "label_categories", [_label_categories(shape)])
    _write(folder, "app_labels", [_app_labels(draw, shape, apps)])
    _write_events(folder, draw, shape, devices, groups, apps)


def _identifiers(draw: np.random.Generator, count: int) -> np.ndarray:
    found = np.unique(draw.integers(-(2**63), 2**63 - 1, count + 100))
    return draw.permutation(found)[:count]


def _people(draw: np.random.Generator, devices: np.ndarray, groups: np.ndarray) -> pa.Table:
    low, high = np.array(_AGES)[groups].T
    names = np.array(GROUPS)[groups]
    gender = np.where(_FEMALE[groups], "F", "M")
    return pa.table({"device_id": devices, "gender": gender, "age": draw.integers(low, high + 1), "group": names})


def _phones(draw: np.random.Generator, shape: Shape, devices: np.ndarray, groups: np.ndarray) -> pa.Table:
    names = np.array([*_BRANDS, *(f"品牌{n}" for n in range(shape.brands - len(_BRANDS)))])
    popular = 1 / np.arange(1, len(names) + 1) ** 1.2
    brand = draw.choice(len(names), len(devices), p=popular / popular.sum())
    by_gender = np.where(_FEMALE[groups], draw.choice([3, 4], len(groups)), draw.choice([0, 5], len(groups)))
    brand = np.where(draw.random(len(groups)) < 1 / 3, by_gender, brand)
    brand = np.where(_OLD[groups] & (draw.random(len(groups)) < 1 / 4), 1, brand)
    model = (draw.random(len(groups)) ** 2 * (shape.models // len(names) + 1)).astype(int)
    # Some devices are there twice, every fifth of them with another model.
    twice = draw.choice(len(devices), shape.duplicates, replace=False)
    at = draw.permutation(np.concatenate([np.arange(len(devices)), twice]))
    shown = np.where(np.arange(len(at)) % 5 == 0, model[at] + 1, model[at])
    again = np.zeros(len(at), dtype=bool)
    again[np.unique(at, return_index=True)[1]] = True  # the first of each
    shown = np.where(again, model[at], shown)
    models = np.char.add(np.char.add(names[brand[at]], " 型号"), shown.astype(str))
    return pa.table({"device_id": devices[at], "phone_brand": names[brand[at]], "device_model": models})


def _label_categories(shape: Shape) -> pa.Table:
    # The first labels are those of `INTERESTS`; of the rest, every few share a text.
    texts = [*INTERESTS, *(f"Category {n // 2}" for n in range(shape.labels - len(INTERESTS)))]
    return pa.table({"label_id": np.arange(1, shape.labels + 1), "category": texts})


def _app_labels(draw: np.random.Generator, shape: Shape, apps: np.ndarray) -> pa.Table:
    # The last apps have no label; the first ones, by the dozen, are those of `INTERESTS`.
    app = np.concatenate([np.arange(shape.labelled), draw.integers(0, shape.labelled, shape.app_labels)])
    own = len(INTERESTS)
    label = own + (draw.random(len(app)) ** 4 * (shape.labels - own)).astype(int)  # a few are everywhere
    planted = np.arange(len(INTERESTS) * _OF_INTEREST)
    label[planted] = planted // _OF_INTEREST
    pairs = np.unique(np.stack([app, label]), axis=1, return_index=True)[1]
    kept = np.concatenate([np.arange(shape.labelled), draw.permutation(pairs[pairs >= shape.labelled])])
    kept = kept[: shape.app_labels]
    return pa.table({"app_id": apps[app[kept]], "label_id": label[kept] + 1})


def _write_events(
    folder: Path, draw: np.random.Generator, shape: Shape, devices: np.ndarray, groups: np.ndarray, apps: np.ndarray
) -> None:
    others = np.arange(shape.rows, len(devices))
    without_phone = others[-shape.without_phone :]
    more = draw.choice(others[: -shape.without_phone], shape.other_with_events - shape.without_phone, replace=False)
    active = np.concatenate([draw.choice(shape.rows, shape.with_events, replace=False), more, without_phone])
    weights = draw.lognormal(0, 1.5, len(active))
    counts = 1 + draw.multinomial(shape.events - len(active), weights / weights.sum())
    who = draw.permutation(np.repeat(np.arange(len(active)), counts))
    _write(folder, "events", [_events(draw, devices[active][who], groups[active][who])])
    installed = _install(draw, shape, groups[active])
    with_apps = np.sort(draw.choice(shape.events, shape.with_apps, replace=False))
    sizes = 1 + draw.multinomial(shape.app_events - shape.with_apps, np.full(shape.with_apps, 1 / shape.with_apps))
    chunks = (slice(start, start + _CHUNK) for start in range(0, shape.with_apps, _CHUNK))
    usable = np.concatenate([apps[: shape.apps - shape.unlabelled], apps[shape.labelled :]])
    tables = (_app_events(draw, with_apps[c] + 1, sizes[c], installed[who[with_apps[c]]], usable) for c in chunks)
    _write(folder, "app_events", tables)


def _events(draw: np.random.Generator, devices: np.ndarray, groups: np.ndarray) -> pa.Table:
    count = len(devices)
    habit = draw.random(count) < 0.4
    hour = draw.integers(7, 24, count)
    hour = np.where(habit & _YOUNG[groups], draw.integers(0, 3, count), hour)
    hour = np.where(habit & _OLD[groups], draw.integers(5, 7, count), hour)
    second = draw.integers(0, 8, count) * 86_400 + hour * 3600 + draw.integers(0, 3600, count)
    known = draw.random(count) < 0.7
    return pa.table(
        {
            "event_id": np.arange(1, count + 1),
            "device_id": devices,
            "timestamp": _START + second.astype("timedelta64[s]"),
            "longitude": np.where(known, draw.uniform(100, 125, count).round(2), 0.0),
            "latitude": np.where(known, draw.uniform(20, 45, count).round(2), 0.0),
        }
    )


def _install(draw: np.random.Generator, shape: Shape, groups: np.ndarray) -> np.ndarray:
    """Return which apps each device has, by their numbers: an array of (devices, apps of a device)."""
    own = len(INTERESTS) * _OF_INTEREST
    popular = (draw.random((len(groups), _INSTALLED)) ** 3 * (shape.apps - own)).astype(np.int32) + own
    for number, sharing in enumerate(INTERESTS.values()):
        interested = draw.random(len(groups)) < np.where(sharing[groups], 0.8, 0.1)
        planted = number * _OF_INTEREST + draw.integers(0, _OF_INTEREST, (len(groups), 4))
        slots = slice(number * 15, number * 15 + 4)  # far from one another, so that few events have all
        popular[:, slots] = np.where(interested[:, None], planted, popular[:, slots])
    return popular


def _app_events(
    draw: np.random.Generator, events: np.ndarray, sizes: np.ndarray, installed: np.ndarray, apps: np.ndarray
) -> pa.Table:
    # An event has a run of its device's apps, from a place of its own on.
    event = np.repeat(np.arange(len(events)), sizes)
    within = np.arange(len(event)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    start = draw.integers(0, installed.shape[1], len(events))
    app = installed[event, (start[event] + within) % installed.shape[1]]
    active = (draw.random(len(event)) < 0.4).astype(np.int8)
    columns = {"event_id": events[event], "app_id": apps[app], "is_installed": np.ones_like(active)}
    return pa.table({**columns, "is_active": active})


def _write(folder: Path, name: str, tables: Iterator[pa.Table] | list[pa.Table]) -> None:
    with ExitStack() as stack:
        writer: csv.CSVWriter | None = None
        for table in tables:
            if writer is None:
                options = csv.WriteOptions(quoting_style="needed")
                writer = stack.enter_context(csv.CSVWriter(folder / f"{name}.csv", table.schema, write_options=options))
            writer.write(table)


if __name__ == "__main__":
    sys.exit(main())
