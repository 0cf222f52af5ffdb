"""An `early_stop_fn`, as Hyperopt's `fmin` takes it, as a rule of the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from retune.errors import BadInput
from retune.search.trial import Trial


def stop_function(name: str, function: Callable[..., Any]) -> Callable[[Sequence[Trial]], bool]:
    """Return a rule that asks `function(trials, *args)`, which gets Hyperopt's `Trials` and its own last `args`.

    Raises:
        BadInput: By the rule: the function, whose import path is `name`, returned no pair.
    """
    args: list[Any] = []

    def stop(trials: Sequence[Trial]) -> bool:
        nonlocal args
        returned = function(_to_hyperopt(trials), *args)
        if not (isinstance(returned, Sequence) and len(returned) == 2):
            raise BadInput(
                f"search.early_stop.function = {name!r}: returned {returned!r}, not (stop, args): whether to stop, and "
                "the list of arguments of its next call"
            )
        said, args = returned
        return bool(said)

    return stop


def _to_hyperopt(trials: Sequence[Trial]) -> Any:
    from hyperopt import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK, Trials

    documents = Trials()
    numbers = [trial.number for trial in trials]
    results = [  # Hyperopt's own functions ask failed trials for a loss too
        {"status": STATUS_FAIL, "loss": math.inf} if trial.loss is None else {"status": STATUS_OK, "loss": trial.loss}
        for trial in trials
    ]
    nothing: dict[str, Any] = {"cmd": None, "workdir": None, "idxs": {}, "vals": {}}
    miscs = [{"tid": number, **nothing} for number in numbers]
    for document in documents.new_trial_docs(numbers, [None] * len(numbers), results, miscs):
        document["state"] = JOB_STATE_DONE
        documents.insert_trial_doc(document)
    documents.refresh()
    return documents
