"""The experiment: what one YAML file under `experiments/` may say.

Light on purpose: Airflow imports this at every parse. `retune.experiment_file` reads the file itself.
"""

from __future__ import annotations

import math
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from retune.data_section import Data, StoredData, form_by_name
from retune.dimensions import Value
from retune.features_section import Features, TabularFeatures
from retune.metrics import Problem, metrics_for
from retune.search_section import MEASURED, Search, parse_constraint
from retune.section import Duration, Section, cross_error
from retune.space import Setting, locate, parameter_names

# A trainer is a file; what it imports is too heavy to ask it for its name here.
_TRAINERS = Path(__file__).parent / "trainers"
TRAINERS = tuple(sorted(m.name for m in iter_modules([str(_TRAINERS)]) if not m.name.startswith(("base", "_"))))
if TYPE_CHECKING:
    TrainerName = str
else:
    TrainerName = Literal[TRAINERS]

Memory = Annotated[str, Field(pattern=r"^[1-9]\d*[mg]$", description='As Spark spells it, such as "4g".')]
_PRESETS = ("@once", "@continuous", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")


class Split(Section):
    """How rows are told apart into train, validation and test: by a seeded hash of their key columns."""

    validation: float = Field(0.15, gt=0, lt=1, description="Fraction of all rows that trials are scored on.")
    test: float = Field(0.25, gt=0, lt=1, description="Fraction of all rows that only evaluate sees.")
    seed: int = Field(42, ge=0)
    key: list[str] = Field([], description="Columns that name a row; all columns by default.")

    @model_validator(mode="after")
    def _check_sum(self) -> Split:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation + test must be less than 1, to leave rows to train on, "
                f"but is {self.validation} + {self.test}"
            )
        return self


class Model(Section):
    """The model family, and the setting it had before tuning."""

    trainer: TrainerName
    fixed: dict[str, Value] = Field({}, description="Parameters of every fit.")
    untuned: dict[str, Value] = Field({}, description="Parameters of the fit that tuning has to beat.")


class Promotion(Section):
    """When the alias `champion` moves to the challenger."""

    minimum_gain: float = Field(0.0, ge=0, description="In units of the search metric, on the test rows.")


class Resources(Section):
    """What a stage asks of the cluster; in local mode, driver_memory alone means something."""

    executors: int | None = Field(None, gt=0)
    executor_cores: int | None = Field(None, gt=0)
    executor_memory: Memory | None = None
    driver_memory: Memory | None = None


class Scheduling(Section):
    """How Airflow treats the experiment's DAG."""

    owner: str = Field("retune", min_length=1, max_length=100)
    tags: list[Annotated[str, Field(min_length=1, max_length=100)]] = []
    spark_conn_id: str = Field("spark_default", min_length=1)
    retries: int = Field(2, ge=0)
    retry_delay: Duration = Field(30, description="Before the first retry; each further one waits twice as long.")
    stage_timeout: Duration = Field(6 * 3600, description="A stage that runs longer is failed.")
    resources: dict[Literal["all", "ingest", "featurize", "tune", "retrain", "evaluate"], Resources] = Field(
        {}, description="By stage; what `all` says holds where a stage says nothing. Default: the cluster's own."
    )

    def resources_of(self, stage: str) -> dict[str, Any]:
        """Return what a stage asks for, by field of `Resources`."""
        given = [
            self.resources[name].model_dump(exclude_none=True) for name in ("all", stage) if name in self.resources
        ]
        return {name: value for each in given for name, value in each.items()}


class Experiment(Section):
    """One experiment file."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=200, description="Equals the file's stem.")
    description: str = ""
    data: Data
    problem: Problem
    split: Split = Split()
    features: Features = TabularFeatures()
    model: Model
    search: Search
    promotion: Promotion = Promotion()
    airflow: Scheduling = Scheduling()
    schedule: str | None = Field(None, description='A cron expression, a preset such as "@weekly", or null.')

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, schedule: str | None) -> str | None:
        if schedule is not None and schedule not in _PRESETS:
            from croniter import CroniterBadDateError, croniter

            # Croniter takes seconds and years too, and aliases that Airflow does not have.
            if len(schedule.split()) != 5 or not croniter.is_valid(schedule):
                raise ValueError(f"must be a cron expression of five fields, one of {', '.join(_PRESETS)}, or null")
            try:
                croniter(schedule).get_next()
            except CroniterBadDateError:
                raise ValueError("names a date that never comes") from None
        return schedule

    @model_validator(mode="after")
    def _check_across_sections(self) -> Experiment:
        allowed = metrics_for(self.problem)
        if self.search.metric not in allowed:
            raise cross_error(
                "search.metric", self.search.metric, f"must be one of {', '.join(allowed)} for problem {self.problem}"
            )
        try:
            searched = parameter_names(self.search.space)
        except ValueError as error:
            raise cross_error("search.space", sorted(self.search.space), str(error)) from error
        if self.search.trial_timeout and self.search.trial_timeout > self.airflow.stage_timeout:
            rule = f"is longer than airflow.stage_timeout = {self.airflow.stage_timeout}, which ends the stage first"
            raise cross_error("search.trial_timeout", self.search.trial_timeout, rule)
        for name, value in self.model.fixed.items():
            if name in searched:
                raise cross_error(
                    f"model.fixed.{name}", value, "is searched in search.space too; leave it in one place"
                )
            if name in self.model.untuned:
                raise cross_error(
                    f"model.untuned.{name}", self.model.untuned[name], "is in model.fixed too; leave it in one place"
                )
        self._check_tables()
        self._check_target()
        self._check_constraints()
        return self

    def _check_constraints(self) -> None:
        metrics = metrics_for(self.problem)
        known = {*MEASURED, *(f"{split}_{name}" for split in ("train", "validation") for name in metrics)}
        allowed: dict[str, tuple[float, float]] = {}
        for index, text in enumerate(self.search.constraints):
            try:
                measure, relation, bound = parse_constraint(text)
                if measure not in known and self.search.objective is None:
                    raise ValueError(f"knows no measure {measure!r}; there are {', '.join(sorted(known))}")
                low, high = allowed.get(measure, (-math.inf, math.inf))
                low, high = (max(low, bound), high) if relation == ">=" else (low, min(high, bound))
                if low > high:
                    raise ValueError(f"leaves no {measure} that the constraints before it allow")
                allowed[measure] = low, high
            except ValueError as error:
                raise cross_error(f"search.constraints.{index}", text, str(error)) from error

    def _check_target(self) -> None:
        without: dict[str, list[Any]] = {
            "features.columns": self.features.named_columns.get("columns", []),
            "split.key": self.split.key,
            "search.validation.group": [getattr(self.search.validation, "group", None)],
        }
        for field, names in without.items():
            if self.data.target in names:
                raise cross_error(field, self.data.target, "must not name the target")

    def _check_tables(self) -> None:
        needed, given = self.features.tables, getattr(self.data, "tables", None)
        if needed and given is None:
            raise cross_error("data", None, f"must give the tables {', '.join(needed)}, which features.pipeline needs")
        if given is not None and not needed:
            raise cross_error("data.tables", None, "features.pipeline takes one table; give its path")
        for name in needed:
            if name not in (given or {}):
                raise cross_error("data.tables", None, f"lacks the table {name}, which features.pipeline needs")

    @property
    def dag_id(self) -> str:
        """The id of the experiment's DAG and the name of its registered model."""
        return f"retune_{self.name}"

    @property
    def mlflow_experiment(self) -> str:
        """The name of the experiment in MLflow."""
        return f"retune/{self.name}"

    @property
    def untuned_parameters(self) -> dict[str, Value]:
        """What the untuned model is fitted with."""
        return {**self.model.fixed, **self.model.untuned}

    @property
    def points_to_evaluate(self) -> list[Setting]:
        """The settings that are tried first: the untuned one, if it lies inside the space, and those of the file."""
        if self.search.engine == "grid":
            return []
        points = [point for point in (self.untuned_setting, *self.search.given_points) if point is not None]
        return [point for index, point in enumerate(points) if point not in points[:index]]

    @property
    def untuned_setting(self) -> Setting | None:
        """The untuned parameters as a setting of the space; None where they lie outside it."""
        untuned = {name: value for name, value in self.model.untuned.items() if name in self.searched}
        try:
            return locate(self.search.space, untuned)
        except ValueError:
            return None

    @property
    def searched(self) -> set[str]:
        """The names of all parameters that the search sets."""
        return parameter_names(self.search.space)


class TriggerParams(Section):
    """What a single run may change; null leaves what the file says."""

    max_trials: int | None = Field(None, gt=0)
    timeout: Duration | None = None
    seed: int | None = Field(None, ge=0, lt=2**32)
    data_path: str | None = Field(None, min_length=1)

    def apply(self, experiment: Experiment) -> Experiment:
        """Return the experiment as this run wants it, validated anew."""
        fields: dict[str, Any] = experiment.model_dump()
        wanted = {"max_trials": self.max_trials, "timeout": self.timeout, "seed": self.seed}
        fields["search"] |= {name: value for name, value in wanted.items() if value is not None}
        if self.data_path is not None:
            stored = isinstance(experiment.data, StoredData)
            kept = ["target", "types", "max_bad_rows"] if stored else ["target"]
            if stored and form_by_name(self.data_path) is None:
                kept.append("format")
            fields["data"] = {
                "source": "file",
                "path": self.data_path,
                **{name: fields["data"][name] for name in kept},
            }
        return Experiment.model_validate(fields)
