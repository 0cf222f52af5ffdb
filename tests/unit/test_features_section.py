"""The section `features`: a file without `pipeline` is tabular, and each pipeline has keys of its own."""

import json

import pytest
from unit.experiments import GOOD, build_experiment, write_experiment

from retune.errors import BadInput
from retune.experiment import TRAINERS, Experiment
from retune.experiment_file import read_experiment
from retune.features_section import FEATURE_SETS, TabularFeatures, TalkingDataFeatures
from retune.mistakes import ExperimentError
from retune.trainers import load_trainer

TABULAR = "features:\n  drop: [comment]\n  cast:\n    carrier: string\n"


TABLES = {name: f"{name}.csv" for name in TalkingDataFeatures(pipeline="talkingdata").tables}


def read(tmp_path, features: str, tables: dict[str, str] | None = None) -> Experiment:
    text = GOOD.replace(TABULAR, features)
    if tables is not None:
        text = text.replace("path: data/flights.csv", f"tables: {json.dumps(tables)}")
    return read_experiment(write_experiment(tmp_path, text))


def test_a_file_without_a_pipeline_is_tabular(tmp_path):
    assert TABULAR in GOOD
    assert read(tmp_path, TABULAR).features == TabularFeatures(drop=["comment"], cast={"carrier": "string"})
    assert read(tmp_path, "").features == TabularFeatures()
    assert TabularFeatures().tables == {}
    assert TabularFeatures().rows_table is None


def test_talkingdata_has_all_sets_unless_the_file_says_which(tmp_path):
    features = read(tmp_path, "features: {pipeline: talkingdata}\n", TABLES).features
    assert features == TalkingDataFeatures(pipeline="talkingdata", sets=list(FEATURE_SETS))


def test_the_tables_of_the_sets_have_to_be_given(tmp_path):
    with pytest.raises(
        ExperimentError, match=r"data: must give the tables gender_age_train, .*features.pipeline needs"
    ):
        read(tmp_path, "features: {pipeline: talkingdata}\n")
    with pytest.raises(ExperimentError, match=r"data.tables: lacks the table events, which features.pipeline needs"):
        read(tmp_path, "features: {pipeline: talkingdata, sets: [hour]}\n", {"gender_age_train": "rows.csv"})
    assert read(tmp_path, "features: {pipeline: talkingdata, sets: [phone]}\n", TABLES)


@pytest.mark.parametrize(
    ("sets", "tables"),
    [
        (["phone"], {"phone_brand_device_model"}),
        (["hour", "weekday"], {"events"}),
        (["app"], {"events", "app_events"}),
        (["label"], {"events", "app_events", "app_labels"}),
        (["category_used"], {"events", "app_events", "app_labels", "label_categories"}),
    ],
)
def test_only_the_tables_that_the_sets_need_are_asked_for(sets, tables):
    section = TalkingDataFeatures(pipeline="talkingdata", sets=sets)
    assert section.tables.keys() == {section.rows_table, *tables}
    assert all("device_id" in section.tables[name] for name in section.tables.keys() & {"events", section.rows_table})


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("{pipeline: images}", r":13: features\.pipeline = 'images': must be one of tabular, talkingdata$"),
        ("{pipeline: talkingdata, drop: [a]}", r":13: features\.drop = \['a'\]: is not a known key"),
        ("{pipeline: talkingdata, sets: []}", r":13: features\.sets = \[\]: .* at least 1"),
        ("{pipeline: talkingdata, sets: [apps]}", r":13: features\.sets\.0 = 'apps': must be 'phone', 'weekday'"),
        ("{pipeline: talkingdata, sets: [app, app]}", r":13: features\.sets = .*: must not name a set twice"),
        ("{sets: [app]}", r":13: features\.sets = \['app'\]: is not a known key"),
        ("{columns: [a], drop: [b]}", r":13: features: columns and drop must not be given together"),
        ("{columns: [arr_delay]}", r":13: features\.columns = 'arr_delay': must not name the target"),
        ("[a]", r":13: features = \['a'\]: must be a mapping"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, features, message):
    with pytest.raises(ExperimentError, match=message):
        read(tmp_path, f"features: {features}\n")


@pytest.mark.parametrize("name", TRAINERS)
def test_cluster_trainers_refuse_bags_and_say_what_to_use(name):
    trainer = load_trainer(name)
    data = {"source": "file", "tables": TABLES, "target": "group"}
    experiment = build_experiment(features={"pipeline": "talkingdata"}, model={"trainer": name}, data=data)
    if trainer.placement == "task":
        trainer.check_search(experiment)
        return
    with pytest.raises(BadInput, match=r"^features\.pipeline = 'talkingdata': .*; use a task trainer, such as xgboost"):
        trainer.check_search(experiment)
