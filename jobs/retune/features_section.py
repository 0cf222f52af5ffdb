"""The section `features` of an experiment file: which pipeline makes features of the data, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from retune.section import Section

CastType = Literal["double", "string", "boolean"]
FeatureSet = Literal["phone", "weekday", "hour", "weekday_hour", "app", "label", "category", "category_used"]
FEATURE_SETS: tuple[FeatureSet, ...] = get_args(FeatureSet)
ROWS_TABLE = "gender_age_train"

# The tables of TalkingData, as far as features are made of them.
_TABLES = {
    ROWS_TABLE: {"device_id": "bigint", "gender": "string", "age": "bigint", "group": "string"},
    "phone_brand_device_model": {"device_id": "bigint", "phone_brand": "string", "device_model": "string"},
    "events": {"event_id": "bigint", "device_id": "bigint", "timestamp": "timestamp"},
    "app_events": {"event_id": "bigint", "app_id": "bigint"},
    "app_labels": {"app_id": "bigint", "label_id": "bigint"},
    "label_categories": {"label_id": "bigint", "category": "string"},
}
_EVENTS = ("events",)
_APPS = (*_EVENTS, "app_events")
_LABELS = (*_APPS, "app_labels")
_CATEGORIES = (*_LABELS, "label_categories")
_NEEDED: dict[FeatureSet, tuple[str, ...]] = {
    "phone": ("phone_brand_device_model",),
    "weekday": _EVENTS,
    "hour": _EVENTS,
    "weekday_hour": _EVENTS,
    "app": _APPS,
    "label": _LABELS,
    "category": _CATEGORIES,
    "category_used": _CATEGORIES,
}


class TabularFeatures(Section):
    """Which columns become features; by default, every numeric, string and boolean one but the target does."""

    pipeline: Literal["tabular"] = "tabular"
    columns: list[str] | None = Field(None, min_length=1, description="Only these columns.")
    drop: list[str] = Field([], description="All but these columns.")
    cast: dict[str, CastType] = Field({}, description="Read these columns as another type.")
    max_categories: int = Field(
        1000, ge=2, description="A string column with more distinct values is left out, as an identifier would be."
    )

    @model_validator(mode="after")
    def _check_one_of(self) -> TabularFeatures:
        if self.columns is not None and self.drop:
            raise ValueError("columns and drop must not be given together")
        return self

    @property
    def tables(self) -> dict[str, dict[str, str]]:
        """The tables that the pipeline reads, with the Spark type of each column: none but the rows themselves."""
        return {}

    @property
    def rows_table(self) -> str | None:
        """The table that has the rows and their target; None where there is one table only."""
        return None

    @property
    def named_columns(self) -> dict[str, list[str]]:
        """The columns of the rows that the file names, by field."""
        return {"columns": self.columns or [], "drop": self.drop, "cast": list(self.cast)}


class TalkingDataFeatures(Section):
    """What a phone and its events tell of the person who uses it: one row a device."""

    pipeline: Literal["talkingdata"]
    sets: list[FeatureSet] = Field(list(FEATURE_SETS), min_length=1, description="Which sets of features are made.")

    @field_validator("sets")
    @classmethod
    def _check_distinct(cls, sets: list[FeatureSet]) -> list[FeatureSet]:
        if len(set(sets)) < len(sets):
            raise ValueError("must not name a set twice")
        return sets

    @property
    def tables(self) -> dict[str, dict[str, str]]:
        """The tables that the sets are made of, with the Spark type of each column."""
        needed = {ROWS_TABLE, *(table for each in self.sets for table in _NEEDED[each])}
        return {name: dict(columns) for name, columns in _TABLES.items() if name in needed}

    @property
    def rows_table(self) -> str | None:
        """The table that has the rows and their target."""
        return ROWS_TABLE

    @property
    def named_columns(self) -> dict[str, list[str]]:
        """The columns of the rows that the file names, by field: none."""
        return {}


def _with_pipeline(section: Any) -> Any:
    return {"pipeline": "tabular", **section} if isinstance(section, dict) else section


Features = Annotated[
    Annotated[TabularFeatures | TalkingDataFeatures, Field(discriminator="pipeline")], BeforeValidator(_with_pipeline)
]
