"""Functions of the user's own, named in an experiment file by their import path."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from retune.errors import BadInput, one_line
from retune.experiment import Experiment


def check_functions(experiment: Experiment) -> None:
    """Check that all functions which the experiment names are there and allowed.

    Raises:
        BadInput: One is not.
    """
    search = experiment.search
    named = {
        "search.objective": search.objective,
        "search.early_stop.function": search.early_stop.function if search.early_stop else None,
    }
    for field, path in named.items():
        if path:
            load_function(field, path)


def require_allowed(field: str, path: str, module: str) -> None:
    """Check that a module may be imported because an experiment file names it.

    An experiment file could otherwise run whatever is installed, so whoever runs the jobs names the modules, and with
    each the modules below it, in `$RETUNE_ALLOWED_MODULES`, separated by commas.

    Raises:
        BadInput: It may not.
    """
    allowed = [entry.strip() for entry in os.environ.get("RETUNE_ALLOWED_MODULES", "").split(",") if entry.strip()]
    if not any(module == entry or module.startswith(f"{entry}.") for entry in allowed):
        raise BadInput(
            f"{field} = {path!r}: RETUNE_ALLOWED_MODULES = {','.join(allowed)!r} does not allow module {module}"
        )


def load_function(field: str, path: str) -> Callable[..., Any]:
    """Return the function at `package.module:function`.

    Raises:
        BadInput: The module is not allowed, cannot be imported, or has no such function.
    """
    module, _, name = path.partition(":")
    require_allowed(field, path, module)
    try:
        function: Callable[..., Any] = getattr(import_module(module), name)
    except Exception as error:  # a module of the user's may raise anything
        raise BadInput(f"{field} = {path!r}: cannot be imported: {one_line(error)}") from error
    if not callable(function):
        raise BadInput(f"{field} = {path!r}: is no function")
    return function
