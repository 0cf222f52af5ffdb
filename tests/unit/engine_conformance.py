"""What every engine must do. A test module subclasses this and names the engines in a fixture `search`."""

import json
from typing import Any

import pytest
from unit.strategies import SPACE

from retune.experiment import Search
from retune.search.engine import Engine, build_engine
from retune.space import Setting, encode, flatten, parameter_names

TRIALS = 30  # more than the random start of any engine, so that what it was told matters
# Steps that do not divide their bounds and options that overlap: what an engine drew is more than what a setting tells.
AWKWARD = {
    "rate": {"type": "loguniform", "low": 0.001, "high": 0.5},
    "leaves": {"type": "quniform", "low": 1, "high": 10, "q": 4},
    "share": {
        "type": "choice",
        "options": [{"type": "uniform", "low": 0, "high": 1}, {"type": "uniform", "low": 0.5, "high": 2}, None],
    },
    "booster": {
        "type": "pchoice",
        "probabilities": [0.3, 0.7],
        "options": [
            "plain",
            {"drop": {"type": "uniform", "low": 0, "high": 1}, "most": {"type": "randint", "low": 1, "high": 50}},
        ],
    },
}


def compute_loss(setting: Setting) -> float | None:
    """Return a loss that hangs on all of the setting; every setting with no share fails."""
    if setting["share"] is None:
        return None
    booster = 0.0 if setting["booster"] == "plain" else 1 - setting["booster"]["drop"] + setting["booster"]["most"] / 50
    return abs(setting["rate"] - 0.1) + abs(setting["leaves"] - 8) / 10 + setting["share"] + booster


def search_trials(engine: Engine, count: int, start: int = 0) -> list[tuple[Setting, float | None]]:
    """Ask and tell `count` times; return settings and losses in order."""
    trials = []
    for number in range(start, start + count):
        setting = engine.propose(number)
        loss = compute_loss(setting)
        engine.tell(number, setting, loss)
        trials.append((setting, loss))
    return trials


class EngineConformance:
    @pytest.fixture
    def search(self) -> dict[str, Any]:
        """What of the experiment's `search` section chooses the engine."""
        raise NotImplementedError("a conformance suite needs the fixture `search`")

    def build(self, search: dict[str, Any], seed: int = 7, space: dict[str, Any] = AWKWARD) -> Engine:
        return build_engine(
            Search.model_validate({"metric": "r2", "max_trials": 1, "seed": seed, "space": space, **search})
        )

    def test_the_same_seed_proposes_the_same(self, search):
        assert search_trials(self.build(search), TRIALS) == search_trials(self.build(search), TRIALS)

    def test_another_seed_proposes_something_else(self, search):
        assert search_trials(self.build(search, seed=8), 5) != search_trials(self.build(search, seed=7), 5)

    def test_proposals_lie_in_the_space(self, search):
        space = SPACE.validate_python(AWKWARD)
        for setting, _ in search_trials(self.build(search), TRIALS):
            encode(space, setting)
            assert flatten(setting).keys() <= parameter_names(space)

    def test_proposals_survive_json(self, search):
        for setting, _ in search_trials(self.build(search), TRIALS):
            assert repr(json.loads(json.dumps(setting))) == repr(setting)

    def test_proposals_differ_from_one_another(self, search):
        settings = [repr(setting) for setting, _ in search_trials(self.build(search), TRIALS)]
        assert len(set(settings)) > TRIALS / 2

    def test_proposing_again_before_telling_gives_the_same(self, search):
        engine = self.build(search)
        search_trials(engine, 22)
        assert engine.propose(22) == engine.propose(22)

    @pytest.mark.parametrize("told", [1, 12, 25])
    def test_an_engine_rebuilt_from_its_history_proposes_the_same_rest(self, search, told):
        whole = search_trials(self.build(search), TRIALS)
        resumed = self.build(search)
        for number, (setting, loss) in enumerate(whole[:told]):
            resumed.tell(number, json.loads(json.dumps(setting)), loss)
        assert search_trials(resumed, TRIALS - told, start=told) == whole[told:]

    def test_a_setting_that_it_did_not_propose_can_be_told(self, search):
        engine = self.build(search)
        engine.tell(0, {"rate": 0.1, "leaves": 8, "share": 0.5, "booster": "plain"}, 0.2)
        engine.tell(2, {"rate": 0.2, "leaves": 4, "share": None, "booster": {"drop": 0.5, "most": 3}}, None)
        encode(SPACE.validate_python(AWKWARD), engine.propose(1))

    def test_it_goes_on_when_all_trials_failed(self, search):
        engine = self.build(search)
        for number in range(TRIALS):
            engine.tell(number, engine.propose(number), None)
        encode(SPACE.validate_python(AWKWARD), engine.propose(TRIALS))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"rate": 0.7}, r"rate = 0\.7 lies outside"),
            ({"leaves": 5}, "leaves = 5 lies outside"),
            ({"booster": "dart"}, "booster = 'dart' is none of its options"),
            ({"depth": 3}, "the setting has .*'depth'"),
        ],
    )
    @pytest.mark.parametrize("proposed", [True, False])
    def test_telling_of_a_setting_outside_the_space_is_refused(self, search, proposed, change, message):
        engine = self.build(search)
        setting = {"rate": 0.1, "leaves": 8, "share": 0.5, "booster": "plain"}
        if proposed:
            setting = engine.propose(0)
        with pytest.raises(ValueError, match=message):
            engine.tell(0, {**setting, **change}, 1.0)
