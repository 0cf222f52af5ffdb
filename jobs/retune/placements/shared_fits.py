"""Boosting runs that settings share: those of a grid that differ in the rounds alone are scored by one fit a fold.

The most rounds there are of such a *family* are fitted once, and each setting is scored by the first of them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

from retune.experiment import Experiment
from retune.placements.objective import SIZE, constrained_measures
from retune.search.grid_engine import GridEngine
from retune.search_section import Search
from retune.space import Parameters, flatten
from retune.trainers.base import Trainer
from retune.trainers.base_task import TaskTrainer

Scores: TypeAlias = dict[int, dict[str, float]]
"""What was measured, by rounds."""


class SharedFits:
    """Remembers what the fits of a search measured, for the settings that share them.

    Only scores are kept, and only here: after a kill, a family that was not told whole is fitted again.

    Args:
        experiment: In the order of `follow_fits`.
        trainer: Fits and cuts the models.
    """

    def __init__(self, experiment: Experiment, trainer: Trainer) -> None:
        self._experiment, self._name = experiment, str(trainer.rounds_parameter)
        self._rounds = find_families(experiment, trainer)
        self._locks = {family: threading.Lock() for family in self._rounds}
        self._scores: dict[tuple[str, int], tuple[int, Scores]] = {}

    def measure(
        self,
        parameters: Parameters,
        folds: Sequence[int],
        trial: int,
        fit: Callable[[Sequence[int], list[int]], list[Scores | None]],
    ) -> list[tuple[int, dict[str, float]]] | None:
        """Return for each fold what was measured of a setting, and in which trial its fit was made.

        Of trials that run side by side, the first of a family fits, and the others wait for it.

        Args:
            parameters: What a model of the setting's own would be fitted with.
            folds: Those wanted now.
            trial: The number of the trial.
            fit: Fits, leaving out each of the folds given, and scores at the rounds given; None for a fold that fails.

        Returns:
            None where the setting shares no fit. So it is from then on when one fails: to more rounds than a
            setting's own, it may have failed where that would not.
        """
        family, own = _family(parameters, self._name), cast(int, parameters.get(self._name))
        if family not in self._locks:
            return None
        with self._locks[family]:
            rounds = self._rounds.get(family, [])
            if own not in rounds:
                return None
            missing = [fold for fold in folds if (family, fold) not in self._scores]
            for fold, scores in zip(missing, fit(missing, rounds) if missing else (), strict=True):
                if scores is None:
                    del self._rounds[family]
                    return None
                self._scores[family, fold] = trial, scores
            told = [self._scores[family, fold] for fold in folds]
        return [(made_in, scores[own]) for made_in, scores in told]

    def trials_for(self, fits: int) -> int:
        """Return how many trials in a row have to run for so many to fit, while the others wait for one of these."""
        fitted: set[str | int] = set()
        for number, parameters in enumerate(_list_parameters(self._experiment) if self._rounds else ()):
            family = _family(parameters, self._name)
            fitted.add(family if family in self._rounds else number)
            if len(fitted) == fits:
                return number + 1
        return fits


def find_families(experiment: Experiment, trainer: Trainer) -> dict[str, list[int]]:
    """Return of each family that shares a fit which rounds its settings have; empty where nothing can be shared."""
    if not isinstance(trainer, TaskTrainer) or not _can_share(experiment.search):
        return {}
    name, found = str(trainer.rounds_parameter), dict[str, set[int]]()
    for parameters in _list_parameters(experiment):
        rounds = parameters.get(name)
        if type(rounds) is int and rounds > 0 and trainer.can_cut(parameters):
            found.setdefault(_family(parameters, name), set()).add(rounds)
    return {family: sorted(rounds) for family, rounds in found.items() if len(rounds) > 1}


def follow_fits(experiment: Experiment, trainer: Trainer) -> Experiment:
    """Return the experiment with the rounds last in its space, so that the settings of a fit come one after another.

    Then a kill costs no more fits than were under way. Where nothing can be shared, it stays as it is.
    """
    search, name = experiment.search, trainer.rounds_parameter
    if name not in search.space:
        return experiment
    space = {**{each: entry for each, entry in search.space.items() if each != name}, name: search.space[name]}
    moved = experiment.model_copy(update={"search": search.model_copy(update={"space": space})})
    return moved if find_families(moved, trainer) else experiment


def _can_share(search: Search) -> bool:
    """Tell whether nothing in a search hangs on each setting's having a fit of its own."""
    return search.engine == "grid" and not (
        search.early_stopping_rounds
        or search.objective
        or search.autolog
        or search.log_models == "all"
        or search.trial_timeout  # is one of the setting's own fit, not of a longer one, nor of waiting
        or constrained_measures(search) & {SIZE, "fit_s"}
    )


def _list_parameters(experiment: Experiment) -> list[Parameters]:
    engine = GridEngine(experiment.search.space)
    return [{**experiment.model.fixed, **flatten(engine.propose(number))} for number in range(experiment.search.trials)]


def _family(parameters: Parameters, name: str) -> str:
    """Return what tells a setting from those that share its fit: all parameters but the rounds."""
    return json.dumps({each: value for each, value in parameters.items() if each != name}, sort_keys=True)
