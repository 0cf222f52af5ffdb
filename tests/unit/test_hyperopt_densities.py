"""The densities that stand in for Hyperopt's give its numbers, to the last bit, and only while they are asked to."""

from contextlib import suppress

import numpy as np
import pytest
from hyperopt import tpe
from hyperopt.pyll import as_apply, rec_eval, scope
from hypothesis import given, settings
from hypothesis import strategies as st

from retune.search import hyperopt_densities


@st.composite
def mixtures(draw: st.DrawFn) -> dict[str, object]:
    """Arguments of a density: a mixture, candidates that may come from it, bounds or none, and a step or none."""
    components, candidates = draw(st.integers(1, 300)), draw(st.integers(0, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.uniform(0.01, 1, components)
    low, high = draw(st.sampled_from([(None, None), (-2.0, 3.0), (0.0, 0.5)]))
    return {
        "samples": rng.uniform(0.01, 3, candidates),
        "weights": weights / weights.sum(),
        "mus": rng.uniform(-2, 3, components),
        "sigmas": rng.uniform(0.001, 2, components),
        "low": low,
        "high": high,
        "q": draw(st.sampled_from([None, 1, 0.25])),
    }


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of logarithms, where a step lies outside the bounds
@pytest.mark.parametrize("name", ["GMM1_lpdf", "LGMM1_lpdf"])
@given(arguments=mixtures())
@settings(max_examples=25)
def test_densities_are_hyperopts_to_the_last_bit(name, arguments):
    theirs = getattr(tpe, name)(**arguments)
    ours = getattr(hyperopt_densities, name)(**arguments)
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours, theirs)


def test_candidates_keep_their_shape():
    candidates = np.arange(6.0).reshape(2, 3)
    components = {"weights": np.array([0.4, 0.6]), "mus": np.array([1.0, 4.0]), "sigmas": np.array([1.0, 2.0])}
    ours = hyperopt_densities.GMM1_lpdf(candidates, q=1, **components)
    assert ours.tolist() == tpe.GMM1_lpdf(candidates, q=1, **components).tolist()


def test_hyperopts_graphs_call_them_only_while_asked_to():
    called = []

    def evaluate() -> None:
        rec_eval(scope.GMM1_lpdf(as_apply([1.0]), *(np.ones(1) for _ in range(3)), q=1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hyperopt_densities, "_mass_of_steps", lambda *_: called.append("ours") or np.ones(1))
        evaluate()
        assert called == []
        with suppress(KeyError), hyperopt_densities.all_at_once():
            evaluate()
            raise KeyError
        evaluate()
    assert called == ["ours"]
