"""The section `search` of an experiment file: engine, budget, and how trials are scored and watched over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from retune.dimensions import Space, Value
from retune.distributions import Number
from retune.metrics import MetricName
from retune.section import Duration, ImportPath, Section, cross_error
from retune.space import flatten, grid_size, locate, walk

_POSITIVE = (float, 0)
ENGINES: dict[str, dict[str, dict[str, tuple[type, float]]]] = {
    "hyperopt": {
        "tpe": {
            "n_startup_jobs": (int, 0),
            "n_EI_candidates": (int, 0),
            "gamma": _POSITIVE,
            "prior_weight": _POSITIVE,
        },
        "rand": {},
        "anneal": {"avg_best_idx": (float, 1), "shrink_coef": _POSITIVE},
    },
    "optuna": {"tpe": {"n_startup_trials": (int, 0), "n_ei_candidates": (int, 0)}, "random": {}},
    "grid": {},
}
"""Engine → algorithm → its settings, each a type and what it must exceed; the first is the default."""

LACKS: dict[str, tuple[str, ...]] = {
    "hyperopt": (),
    "optuna": ("normal", "lognormal", "qnormal", "qlognormal", "pchoice"),
    "grid": ("uniform", "loguniform", "normal", "lognormal", "qnormal", "qlognormal", "pchoice"),
}
"""Engine → the types of distribution that it does not have."""

MEASURED = ("model_size_mb", "score_ms_per_row", "fit_s")
"""What is measured of every trial beside the metrics of its problem."""


class EarlyStop(Section):
    """When a search that gets no better ends."""

    trials: int | None = Field(None, gt=0, description="So many trials in a row without progress.")
    minimum_gain: float = Field(0.0, ge=0, description="What counts as progress, in units of the search metric.")
    function: ImportPath | None = Field(None, description="An early_stop_fn as Hyperopt's fmin takes it.")

    @model_validator(mode="after")
    def _check_one_of(self) -> EarlyStop:
        if (self.trials is None) == (self.function is None):
            raise ValueError("must have either trials or function")
        if self.function and self.minimum_gain:
            raise ValueError("minimum_gain goes with trials; a function tells for itself what progress is")
        return self


class WarmStart(Section):
    """Trials of earlier pipeline runs of this experiment, told to the engine before the first trial."""

    runs: int = Field(3, gt=0, le=100, description="So many earlier searches at most, the newest ones.")
    max_age: Duration | None = Field(None, description='None older than this, for example "90d".')
    outside: Literal["drop", "clip"] = Field("drop", description="What to do with a setting outside today's space.")
    other_data: Literal["leave_out", "best_first"] = Field(
        "leave_out", description="Trials on other data: not told, or their best settings are tried first."
    )


class Holdout(Section):
    """Each trial is fitted to the train rows and scored on the validation rows."""

    type: Literal["holdout"] = "holdout"


class CrossValidation(Section):
    """Each trial is fitted and scored once a fold; folds are cut from train + validation."""

    type: Literal["cross_validation"] = "cross_validation"
    folds: int = Field(5, ge=2, le=50)
    group: str | None = Field(None, min_length=1, description="Rows that are equal in this column share a fold.")
    prune: bool = Field(False, description="Stop a trial that is worse than the median after the same folds.")


def _by_name(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


Validation: TypeAlias = Annotated[
    Annotated[Holdout | CrossValidation, Field(discriminator="type")],
    BeforeValidator(
        _by_name, json_schema_input_type=Literal["holdout", "cross_validation"] | Holdout | CrossValidation
    ),
]


_NOT_IN_SPARK_TRIALS = (
    *("early_stop", "max_queue_len", "points_to_evaluate", "trial_timeout", "max_failed_trials", "warm_start"),
    *("validation", "constraints", "autolog", "infra_retries"),
)


class Search(Section):
    """The hunt for the best setting."""

    engine: Literal["hyperopt", "optuna", "grid"] = "hyperopt"
    algorithm: Literal["tpe", "rand", "anneal", "random"] | None = Field(
        None, description="hyperopt: tpe, rand, anneal; optuna: tpe, random; by default tpe. grid has none."
    )
    algorithm_settings: dict[str, Number] = Field({}, description="Of the algorithm, by its library's names.")
    metric: MetricName
    objective: ImportPath | None = Field(None, description="A function of one's own in place of fit and score.")
    max_trials: int | None = Field(None, gt=0, description="Needed, but for grid, which ends by itself.")
    timeout: Duration | None = Field(None, description='No new trial starts after this, for example "30m".')
    loss_threshold: float | None = Field(
        None, description="Enough is enough: stop at a trial at least as good, in units of the search metric."
    )
    early_stop: EarlyStop | None = None
    max_queue_len: int = Field(1, gt=0, description="So many settings are proposed at once, from the same history.")
    points_to_evaluate: list[dict[str, Value]] | Literal["champion"] = Field(
        [], description="Settings to try first, by parameter; or the champion's."
    )
    max_grid: int = Field(1000, gt=0, description="A grid of more settings is refused.")
    seed: int = Field(42, ge=0, lt=2**32)
    parallel_trials: Annotated[int, Field(gt=0, le=128)] | Literal["auto"] | None = Field(
        None,
        validation_alias=AliasChoices("parallel_trials", "parallelism"),
        description="Trials side by side; also spelt parallelism. Default: 1 on the cluster, in tasks all "
        "slots filled; auto: as many as use the machine best.",
    )
    placement: Literal["cluster", "task"] | None = Field(None, description="Where trials run; the trainer's, if given.")
    runner: Literal["retune", "spark_trials"] = Field(
        "retune", description="spark_trials: Hyperopt's own SparkTrials, for the task placement."
    )
    trial_timeout: Duration | None = Field(None, description='A trial that takes longer is ended, for example "10m".')
    log_models: Literal["best", "all", "none"] = Field(
        "best",
        description="Models kept in MLflow: that of the best setting, as retrain fits it; also each trial's; or none, "
        "and then none is registered.",
    )
    autolog: bool = Field(False, description="MLflow's own autologging of each fit, into a run below the trial's.")
    infra_retries: int = Field(2, ge=0, le=10, description="Further tries of a setting that the cluster let down.")
    max_failed_trials: int | None = Field(None, gt=0, description="So many failed trials end the search.")
    warm_start: WarmStart | None = None
    validation: Validation = Holdout()
    early_stopping_rounds: int | None = Field(
        None, gt=0, description="A fit stops when the validation rows gain nothing in so many rounds."
    )
    constraints: list[str] = Field([], description='What the best trial must keep, such as "model_size_mb <= 50".')
    space: Space = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _check_spelling(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and {"parallel_trials", "parallelism"} <= set(given):
            raise cross_error("search.parallelism", given["parallelism"], "is parallel_trials by another name; use one")
        return given

    @model_validator(mode="after")
    def _check_engine(self) -> Search:
        algorithms = ENGINES[self.engine]
        if self.algorithm is not None and self.algorithm not in algorithms:
            known = f"must be one of {', '.join(algorithms)}" if algorithms else "must be left out"
            raise cross_error("search.algorithm", self.algorithm, f"{known} for engine {self.engine}")
        known_settings = algorithms.get(self.algorithm_name, {})
        for name, value in self.algorithm_settings.items():
            _check_setting(f"{self.engine} {self.algorithm_name}".strip(), known_settings, name, value)
        for label, dimension in walk(self.space):
            kind = getattr(dimension, "type", "")
            if kind in LACKS[self.engine]:
                rule = f"engine {self.engine} has no {kind}; use another type, or engine hyperopt"
                if self.engine == "grid" and kind in ("uniform", "loguniform"):
                    rule = f"a grid needs discrete values, and {kind} is continuous; use quniform, uniformint or choice"
                raise cross_error(f"search.space.{label}", kind, rule)
        return self

    @model_validator(mode="after")
    def _check_runner(self) -> Search:
        if self.runner == "spark_trials":
            if self.engine != "hyperopt":
                raise cross_error("search.runner", self.runner, f"SparkTrials is Hyperopt's; engine is {self.engine}")
            fields = type(self).model_fields
            for name in _NOT_IN_SPARK_TRIALS:
                if getattr(self, name) != fields[name].get_default():
                    raise cross_error(f"search.{name}", None, "SparkTrials has none; leave it out")
        return self

    @model_validator(mode="after")
    def _check_logging(self) -> Search:
        why = {
            "a trial has a model for each fold": isinstance(self.validation, CrossValidation),
            "a function of one's own can log its models itself": self.objective is not None,
            "SparkTrials keeps none": self.runner == "spark_trials",
        }
        if self.log_models == "all" and (reasons := [reason for reason, so in why.items() if so]):
            raise cross_error("search.log_models", self.log_models, f"{reasons[0]}; use best")
        return self

    @model_validator(mode="after")
    def _check_warm_start(self) -> Search:
        if self.engine == "grid" and self.warm_start is not None:
            raise cross_error("search.warm_start", "given", "engine grid learns nothing from earlier trials")
        if self.engine == "grid" and self.points_to_evaluate:
            raise cross_error("search.points_to_evaluate", self.points_to_evaluate, "engine grid tries all settings")
        return self

    @model_validator(mode="after")
    def _check_budget(self) -> Search:
        if self.engine == "grid":
            size = grid_size(self.space)
            if size > self.max_grid:
                rule = f"is a grid of more than max_grid = {self.max_grid} settings; search less, or raise it"
                raise cross_error("search.space", f"{size} settings", rule)
        elif self.max_trials is None:
            raise cross_error("search.max_trials", None, f"max_trials is needed with engine {self.engine}")
        return self

    @model_validator(mode="after")
    def _check_points(self) -> Search:
        for index, point in enumerate(self.points_to_evaluate if isinstance(self.points_to_evaluate, list) else []):
            try:
                locate(self.space, point)
            except ValueError as error:
                raise cross_error(f"search.points_to_evaluate.{index}", point, str(error)) from error
        return self

    @property
    def algorithm_name(self) -> str:
        """The algorithm, the engine's first where none is given; empty for grid."""
        return self.algorithm or next(iter(ENGINES[self.engine]), "")

    @property
    def trials(self) -> int:
        """How many trials there are at most."""
        size = grid_size(self.space) if self.engine == "grid" else None
        given = [number for number in (self.max_trials, size) if number is not None]
        return min(given)

    @property
    def given_points(self) -> list[dict[str, Any]]:
        """The settings to try first, as the engine would propose them; the champion's is not among them."""
        points = self.points_to_evaluate if isinstance(self.points_to_evaluate, list) else []
        return [locate(self.space, flatten(point)) for point in points]


def parse_constraint(text: str) -> tuple[str, str, float]:
    """Return measure, relation (`<=` or `>=`) and bound of a constraint.

    Raises:
        ValueError: It is not of the form "measure <= number".
    """
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", text)
    if not match:
        raise ValueError('must have the form "measure <= number" or "measure >= number"')
    return match[1], match[2], float(match[3])


def _check_setting(what: str, known: dict[str, tuple[type, float]], name: str, value: Number) -> None:
    field = f"search.algorithm_settings.{name}"
    if name not in known:
        raise cross_error(field, value, f"{what} has no such setting; it has {', '.join(known) or 'none'}")
    kind, above = known[name]
    if kind is int and not isinstance(value, int):
        raise cross_error(field, value, "must be a whole number")
    if value <= above:
        raise cross_error(field, value, f"must be greater than {above:g}")
