"""Importances by name: a bag's slots have names of their own."""

import pytest

from retune.features.base import BAG, Feature
from retune.placements.feature_list import has_bags, name_importances

FEATURES = [Feature("age", "number", "bigint"), Feature("city", "category", "string", ["Graz", "Ulm"]),
            Feature("app", "bag", BAG, ["-5", "12"])]  # fmt: skip


def test_each_slot_has_its_name_and_all_add_up_to_1():
    assert name_importances([2.0, 4.0, 0.0, 2.0], FEATURES) == {"age": 0.25, "city": 0.5, "app:-5": 0.0, "app:12": 0.25}


@pytest.mark.parametrize("none", [None, [0.0, 0.0, 0.0, 0.0]])
def test_a_model_that_cannot_tell_has_none(none):
    assert name_importances(none, FEATURES) == {}


def test_importances_of_other_slots_are_an_error():
    with pytest.raises(ValueError, match="shorter"):
        name_importances([1.0, 2.0], FEATURES)


def test_only_bags_make_vectors_sparse():
    assert has_bags(FEATURES)
    assert not has_bags(FEATURES[:2])
