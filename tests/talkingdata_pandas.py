"""TalkingData's features as one would write them in pandas: what retune's are held against.

Run as a script with the folder of the tables, it makes all sets, one after the other, then one table of them, and
prints for each, as a line of JSON, the seconds and the process's peak memory; `--limit-gb` ends it where that is not
enough.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import pandas as pd

TABLES = ("gender_age_train", "phone_brand_device_model", "events", "app_events", "app_labels", "label_categories")
SETS = ("phone", "weekday", "hour", "weekday_hour", "app", "label", "category", "category_used")
Tables = dict[str, pd.DataFrame]


def read_tables(folder: Path) -> Tables:
    """Read the CSV files of all tables."""
    dates = {"events": ["timestamp"]}
    return {name: pd.read_csv(folder / f"{name}.csv", parse_dates=dates.get(name)) for name in TABLES}


def make_set(name: str, tables: Tables) -> pd.DataFrame:
    """Return one set's values: a row for each device that has any, a column for each name, such as `app:123`."""
    if name == "phone":
        phone = tables["phone_brand_device_model"].sort_values(["phone_brand", "device_model"], na_position="last")
        phone = _of_rows(phone.drop_duplicates("device_id"), tables).set_index("device_id")
        brand, model = phone["phone_brand"].dropna(), phone["device_model"].dropna()
        made = [pd.get_dummies(brand, prefix="brand", prefix_sep=":"), pd.get_dummies(model, prefix="model", prefix_sep=":")]  # fmt: skip  # noqa: E501
        return pd.concat(made, axis=1).fillna(False).astype(float)
    if name in ("weekday", "hour", "weekday_hour"):
        events = _of_rows(tables["events"], tables)
        weekday, hour = events["timestamp"].dt.day_of_week.astype(str), events["timestamp"].dt.hour.astype(str)
        column = {"weekday": weekday, "hour": hour, "weekday_hour": weekday + " " + hour}[name]
        return _fractions(name, events["device_id"], column)
    used = tables["app_events"].merge(_of_rows(tables["events"], tables), on="event_id")
    if name == "app":
        return _fractions(name, used["device_id"], used["app_id"])
    labelled = used.merge(tables["app_labels"].drop_duplicates(), on="app_id")
    if name == "label":
        return _fractions(name, labelled["device_id"], labelled["label_id"])
    categories = labelled.merge(tables["label_categories"].dropna(), on="label_id")
    made = _fractions(name, categories["device_id"], categories["category"])
    return (made > 0).astype(float) if name == "category_used" else made


def join_sets(made: Tables, tables: Tables) -> pd.DataFrame:
    """Return all values: a row for each device of `gender_age_train`."""
    return pd.concat(made.values(), axis=1).reindex(tables["gender_age_train"]["device_id"]).fillna(0.0)


def _of_rows(table: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    return table[table["device_id"].isin(tables["gender_age_train"]["device_id"])]


def _fractions(name: str, device: pd.Series, column: pd.Series) -> pd.DataFrame:
    return pd.crosstab(device, column, normalize="index").add_prefix(f"{name}:")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit-gb", type=float)
    arguments = parser.parse_args()
    if arguments.limit_gb:
        most = int(arguments.limit_gb * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    name, started, made = "reading the tables", time.monotonic(), {}
    try:
        tables = read_tables(arguments.folder)
        _tell(name, started)
        for name in SETS:
            started = time.monotonic()
            made[name] = make_set(name, tables)
            _tell(name, started)
        name, started = "one table of all sets", time.monotonic()
        join_sets(made, tables)
        _tell(name, started)
    except MemoryError as error:
        _tell(name, started, error=f"MemoryError: {error}")
    return 0


def _tell(name: str, started: float, **more: str) -> None:
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps({"part": name, "seconds": time.monotonic() - started, "peak_mb": peak_mb, **more}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
