"""An `early_stop_fn`, as Hyperopt's `fmin` takes it, as a rule of the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from retune.errors import BadInput
from retune.search.trial import Trial


def stop_function(name: str, function: Callable[..., Any]) -> Callable[[Sequence[Trial]], bool]:
    """Return a rule that asks `function(trials, *args)`, which gets Hyperopt's `Trials` and its own last `args`.

    It is asked once a trial, however often the rule is, for it may count; of a search that is resumed, from the first
    trial on.

    Raises:
        BadInput: By the rule: the function, whose import path is `name`, failed or returned no pair.
    """
    asked, said = 0, False
    args: Sequence[Any] = []

    def stop(trials: Sequence[Trial]) -> bool:
        nonlocal asked, said, args
        while not said and asked < len(trials):
            asked += 1
            said, args = _ask(name, function, trials[:asked], args)
        return said

    return stop


def _ask(
    name: str, function: Callable[..., Any], trials: Sequence[Trial], args: Sequence[Any]
) -> tuple[bool, Sequence[Any]]:
    try:
        returned = function(_to_hyperopt(trials), *args)
    except Exception as error:
        raise BadInput(f"search.early_stop.function = {name!r}: {type(error).__name__}: {error}") from error
    if not (isinstance(returned, (tuple, list)) and len(returned) == 2):
        raise BadInput(
            f"search.early_stop.function = {name!r}: returned {returned!r}, not (stop, args): whether to stop, and "
            "the list of arguments of its next call"
        )
    return bool(returned[0]), returned[1]


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
