"""XGBoost's own Spark integration: distributed gradient boosting, fitted on the cluster by Python workers."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.ml import Transformer
from pyspark.sql import DataFrame, SparkSession
from xgboost.spark import SparkXGBClassifier, SparkXGBRegressor

from retune.data.splits import LABEL, ROW_ID
from retune.errors import BadInput, root_cause
from retune.features.base import FEATURES
from retune.metrics import Problem
from retune.space import Parameters
from retune.spark import Slots, task_cpus
from retune.trainers._parameters import Range
from retune.trainers._xgboost import PACKAGE, ranges, whole
from retune.trainers.base import PREDICTION, PROBABILITY
from retune.trainers.base_cluster import WATCHED, ClusterTrainer, EarlyStopping

_ROWS_PER_WORKER = 10_000
_OURS = frozenset(
    (
        *("featuresCol", "features_cols", "labelCol", "predictionCol", "probabilityCol", "rawPredictionCol"),
        *("arbitrary_params_dict", "num_workers", "force_repartition", "repartition_random_shuffle"),
        *("missing", "enable_sparse_data_optim", "feature_names", "feature_types", "early_stopping_rounds"),
        *("callbacks", "xgb_model", "iteration_range", "verbose"),
    )
)
# What XGBoost says stands below Spark's and Python's words, and above the stack of Java or C++.
_XGBOOST_ERROR = re.compile(r"XGBoostError: (?:\[[\d:]+\] \S+: )?(.*?)(?:\nStack trace:|\n\tat |\Z)", re.DOTALL)
logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)  # it would tell the parameters of every trial


class XGBoostSpark(ClusterTrainer):
    """`SparkXGBRegressor` and `SparkXGBClassifier`; parameters go by the names of XGBoost's scikit-learn classes.

    XGBoost learns which way rows with a missing value go, and splits categories as such (`max_cat_to_onehot` and
    `max_cat_threshold` say how).
    """

    name = "xgboost_spark"
    requirements = ("mlflow", "pyspark", PACKAGE, "scikit-learn", "numpy", "pandas", "pyarrow")
    rounds_parameter = "n_estimators"
    takes_infinity = False

    def defaults(self, problem: Problem) -> Mapping[str, object]:
        """Return XGBoost's parameters, less those that retune or `xgboost.spark` sets itself."""
        known = {param.name: default for param, default in _estimator(problem)().extractParamMap().items()}
        ours = _OURS if problem == "regression" else _OURS | {"objective"}
        return {name: default for name, default in known.items() if name not in ours}

    def ranges(self, problem: Problem) -> Mapping[str, Range]:
        """Return what XGBoost's documentation says; see `Trainer`."""
        return ranges(problem)

    def require(self, spark: SparkSession) -> None:
        """Check that all workers of a fit can start at once; see `Trainer`."""
        context = spark.sparkContext
        dynamic = context.getConf().get("spark.dynamicAllocation.enabled", "false") == "true"
        if dynamic and not context._jsc.sc().isLocal():
            raise BadInput(
                "xgboost_spark needs all its workers at once, which Spark does not promise where "
                "spark.dynamicAllocation.enabled is true; set it to false for this experiment's connection"
            )

    def safer(self, rung: int) -> Parameters:
        """The workers meet on an executor, not on the driver; then there is a single worker, which needs no network."""
        ladder: tuple[Parameters, ...] = (
            {},
            {"launch_tracker_on_driver": False},
            {"launch_tracker_on_driver": False, "num_workers": 1},
        )
        return ladder[min(rung, len(ladder) - 1)]

    def model_size(self, model: Transformer) -> int:
        """Return the bytes of XGBoost's own binary form."""
        return len(model.get_booster().save_raw())

    def layout(self, rows: DataFrame, slots: Slots) -> DataFrame:
        """Give each worker one partition, in an order that hangs on the rows alone, and each task at once a worker.

        A worker has the cores of a task (`spark.task.cpus`), as `xgboost.spark` has it. Its barrier stage must not join
        partitions of the stage before, so even one partition is shuffled to.
        """
        workers = max(1, min(_tasks_at_once(rows.sparkSession, slots), rows.count() // _ROWS_PER_WORKER))
        return _spread(rows, workers)

    def rounds(self, model: Transformer) -> int:
        """Return the best iteration of XGBoost's own early stopping, counted from 1; see `Trainer`."""
        booster = model.get_booster()
        best = booster.attr("best_iteration")
        return int(booster.num_boosted_rounds()) if best is None else int(best) + 1

    def fit(
        self,
        rows: DataFrame,
        parameters: Parameters,
        problem: Problem,
        classes: int,
        seed: int,
        early_stopping: EarlyStopping | None = None,
    ) -> Transformer:
        """Fit one model; see `Trainer`."""
        spark, partitions = rows.sparkSession, rows.rdd.getNumPartitions()
        given = {"random_state": seed % (2**31), "verbosity": 0, "num_workers": partitions, **parameters}
        settings = whole(given)
        # A barrier stage with more tasks than can run would wait, in vain where an executor is gone.
        workers = settings["num_workers"] = min(settings["num_workers"], _tasks_at_once(spark, Slots.of(spark)))
        if early_stopping:
            rows = early_stopping.beside(rows)
            settings |= {"validation_indicator_col": WATCHED, "early_stopping_rounds": early_stopping.rounds}
        if early_stopping or workers != partitions:
            rows = _spread(rows, workers)
        settings |= {"features_col": FEATURES, "label_col": LABEL, "prediction_col": PREDICTION, "verbose": False}
        if problem != "regression":
            settings |= {"probability_col": PROBABILITY, "raw_prediction_col": ""}
        estimator = _estimator(problem)(**settings, feature_types=_feature_types(rows))
        try:
            model = estimator.fit(rows)
        except Py4JJavaError as error:
            if told := _XGBOOST_ERROR.search(root_cause(error)):
                raise ValueError(told[1].strip()) from error
            raise
        _check_classes(model, classes)
        return model


def _estimator(problem: Problem) -> Any:
    return SparkXGBRegressor if problem == "regression" else SparkXGBClassifier


def _spread(rows: DataFrame, workers: int) -> DataFrame:
    return rows.repartition(workers, ROW_ID).sortWithinPartitions(ROW_ID)


def _tasks_at_once(spark: SparkSession, slots: Slots) -> int:
    return max(1, slots.executors * (slots.cores // task_cpus(spark)))


def _feature_types(rows: DataFrame) -> list[str] | None:
    """Return `c` for each slot of categories and `q` for the others; None where there is none of categories."""
    marked = rows.schema[FEATURES].metadata.get("ml_attr", {})
    nominal = {slot["idx"] for slot in marked.get("attrs", {}).get("nominal", [])}
    return ["c" if slot in nominal else "q" for slot in range(marked["num_attrs"])] if nominal else None


def _check_classes(model: Any, classes: int) -> None:
    """Refuse a model that knows fewer classes: XGBoost counts those of the rows, and a fold may lack one."""
    if classes:
        learner = json.loads(model.get_booster().save_config())["learner"]
        known = max(2, int(learner["learner_model_param"]["num_class"]))
        if known != classes:
            raise ValueError(f"only {known} of {classes} classes are among the rows of the fit")


TRAINER = XGBoostSpark()
