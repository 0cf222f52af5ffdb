"""All engines that an experiment file can name pass the one conformance suite."""

from itertools import product
from typing import Any, get_args

import pytest
from unit.engine_conformance import EngineConformance

from retune.experiment import Search

ENGINES = get_args(Search.model_fields["engine"].annotation)
ALGORITHMS = get_args(Search.model_fields["algorithm"].annotation)


class TestEngines(EngineConformance):
    @pytest.fixture(params=product(ENGINES, ALGORITHMS), ids=" ".join)
    def search(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        engine, algorithm = request.param
        return {"engine": engine, "algorithm": algorithm}
