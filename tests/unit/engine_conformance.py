"""What every engine must do. A test module subclasses this and names the engines in a fixture `search`."""

import json
from typing import Any

import pytest
from unit.strategies import SPACE

from retune.dimensions import Space
from retune.search.engine import Engine, build_engine
from retune.search_section import ENGINES, LACKS, Search
from retune.space import Setting, decode, encode, flatten, parameter_names

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

# What stands in for a type that an engine lacks; each of the settings told below lies in every variant.
STAND_INS = {
    "uniform": lambda fields: {**fields, "type": "quniform", "q": 0.5},
    "loguniform": lambda fields: {**fields, "type": "quniform", "q": 0.1},
    "pchoice": lambda fields: {"type": "choice", "options": fields["options"]},
}
PLAIN = {"rate": 0.1, "leaves": 8, "share": 0.5, "booster": "plain"}
DROPPING = {"rate": 0.2, "leaves": 4, "share": None, "booster": {"drop": 0.5, "most": 3}}


def awkward_for(*engines: str) -> dict[str, Any]:
    """Return AWKWARD, without the types of distribution that one of `engines` lacks."""
    lacked = {kind for engine in engines for kind in LACKS[engine]}

    def adapt(entry: Any) -> Any:
        if isinstance(entry, list):
            return [adapt(each) for each in entry]
        if not isinstance(entry, dict):
            return entry
        fields = {name: adapt(each) for name, each in entry.items()}
        return STAND_INS[fields["type"]](fields) if fields.get("type") in lacked else fields

    return {name: adapt(entry) for name, entry in AWKWARD.items()}


def build(search: dict[str, Any], space: dict[str, Any], seed: int = 7) -> Engine:
    """Return the engine that `search` names."""
    section = {"metric": "r2", "max_trials": 1, "max_grid": 100_000, "seed": seed, "space": space, **search}
    return build_engine(Search.model_validate(section))


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
    @pytest.fixture(scope="class")
    def search(self) -> dict[str, Any]:
        """What of the experiment's `search` section chooses the engine."""
        raise NotImplementedError("a conformance suite needs the fixture `search`")

    @pytest.fixture(scope="class")
    def whole(self, search) -> list[tuple[Setting, float | None]]:
        """The trials of a search from its beginning; many tests look at them, and none changes them."""
        return search_trials(self.build(search), TRIALS)

    @pytest.fixture
    def draws(self, search) -> bool:
        """Whether the engine draws at random: one without algorithms has nothing to draw."""
        return bool(ENGINES[search["engine"]])

    @pytest.fixture
    def learns(self, search) -> bool:
        """Whether what the engine was told changes what it proposes."""
        return search["algorithm"] in ("tpe", "anneal")

    @pytest.fixture
    def space(self, search) -> Space:
        return SPACE.validate_python(awkward_for(search["engine"]))

    def build(self, search: dict[str, Any], seed: int = 7) -> Engine:
        return build(search, awkward_for(search["engine"]), seed)

    def test_the_same_seed_proposes_the_same(self, search, whole):
        assert search_trials(self.build(search), TRIALS) == whole

    def test_another_seed_proposes_something_else_where_it_draws(self, search, draws):
        differs = search_trials(self.build(search, seed=8), 5) != search_trials(self.build(search, seed=7), 5)
        assert differs == draws

    def test_proposals_lie_in_the_space(self, whole, space):
        for setting, _ in whole:
            assert decode(space, encode(space, setting)) == setting
            assert flatten(setting).keys() <= parameter_names(space)

    def test_proposals_survive_json(self, whole):
        for setting, _ in whole:
            assert repr(json.loads(json.dumps(setting))) == repr(setting)

    def test_proposals_differ_from_one_another(self, whole):
        settings = [repr(setting) for setting, _ in whole]
        assert len(set(settings)) > TRIALS / 2

    @pytest.mark.parametrize("told", [0, 22])
    def test_proposing_again_before_telling_gives_the_same(self, search, told):
        engine = self.build(search)
        search_trials(engine, told)
        batch = [engine.propose(number) for number in range(told, told + 3)]
        assert [engine.propose(number) for number in range(told, told + 3)] == batch
        assert engine.propose(told + 1) == batch[1]

    def test_proposing_leaves_no_trace(self, search, whole):
        engine = self.build(search)
        for number, (setting, loss) in enumerate(whole):
            for later in (number + 2, number):
                proposed = engine.propose(later)
            assert proposed == setting
            engine.tell(number, setting, loss)

    @pytest.mark.parametrize("told", [1, 12, 25])
    def test_an_engine_rebuilt_from_its_history_proposes_the_same_rest(self, search, whole, told):
        resumed = self.build(search)
        for number, (setting, loss) in enumerate(whole[:told]):
            resumed.tell(number, json.loads(json.dumps(setting)), loss)
        assert search_trials(resumed, TRIALS - told, start=told) == whole[told:]

    def test_settings_that_it_did_not_propose_can_be_told(self, search, space, learns):
        engine = self.build(search)
        untold = engine.propose(1)
        engine.tell(0, PLAIN, 0.2)
        for number in range(2, TRIALS):
            engine.tell(number, DROPPING if number % 2 else PLAIN, None if number % 2 else 0.2)
        proposed = engine.propose(1)
        assert decode(space, encode(space, proposed)) == proposed
        assert (proposed != untold) == learns

    def test_trials_of_earlier_searches_can_be_told(self, search, space, learns):
        warm = search_trials(self.build(search, seed=9), TRIALS)
        engine, resumed = self.build(search), self.build(search)
        for told in (engine, resumed):
            for number, (setting, loss) in enumerate(warm, start=-TRIALS):
                told.tell(number, json.loads(json.dumps(setting)), loss)
        whole = search_trials(engine, 10)
        assert [decode(space, encode(space, setting)) for setting, _ in whole] == [setting for setting, _ in whole]
        assert (whole != search_trials(self.build(search), 10)) == learns
        for number, (setting, loss) in enumerate(whole[:6]):
            resumed.tell(number, json.loads(json.dumps(setting)), loss)
        assert search_trials(resumed, 4, start=6) == whole[6:]

    def test_it_goes_on_when_all_trials_failed(self, search, space):
        engine = self.build(search)
        for number in range(TRIALS):
            engine.tell(number, engine.propose(number), None)
        settings = [setting for setting, _ in search_trials(engine, TRIALS, start=TRIALS)]
        assert [decode(space, encode(space, setting)) for setting in settings] == settings
        assert len({repr(setting) for setting in settings}) > TRIALS / 2

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"rate": 0.7}, r"rate = 0\.7 lies outside"),
            ({"leaves": 5}, "leaves = 5 lies outside"),
            ({"booster": "dart"}, "booster = 'dart' is none of its options"),
            ({"depth": 3}, "the setting has .*'depth'"),
        ],
    )
    @pytest.mark.parametrize("number", [0, -1])
    @pytest.mark.parametrize("proposed", [True, False])
    def test_telling_of_a_setting_outside_the_space_is_refused(self, search, proposed, number, change, message):
        engine = self.build(search)
        setting = engine.propose(0) if proposed else PLAIN
        with pytest.raises(ValueError, match=message):
            engine.tell(number, {**setting, **change}, 1.0)

    def test_it_warns_of_nothing(self, search, recwarn):
        search_trials(self.build(search), TRIALS)
        assert [str(warning.message) for warning in recwarn] == []
