"""The summary says what its numbers come to."""

from types import SimpleNamespace

import pytest
from unit.experiments import SEARCH, build_experiment

from retune.report import _scores_part


@pytest.mark.parametrize(
    ("metric", "untuned", "tuned", "told"),
    [
        ("rmse", 0.5, 0.6, True),
        ("rmse", 0.6, 0.5, False),
        ("rmse", 0.5, 0.5, False),
        ("r2", 0.6, 0.5, True),
        ("r2", 0.5, 0.6, False),
        ("r2", None, 0.6, False),
    ],
)
def test_a_search_that_gained_nothing_on_the_test_rows_is_told(metric, untuned, tuned, told):
    experiment = build_experiment(search=SEARCH | {"metric": metric})
    metrics = {f"untuned_test_{metric}": untuned, f"challenger_test_{metric}": tuned}
    evaluate = SimpleNamespace(data=SimpleNamespace(metrics={k: v for k, v in metrics.items() if v is not None}))
    part = _scores_part(evaluate, experiment)
    assert f"| {metric} *" in part
    assert ("the untuned setting does better" in part) == told
