"""The search loop of SynapseML's guide to Hyperopt, on rows that featurize wrote; prints its seconds as JSON.

As the guide has it: MLflow's autologging for Spark ML, a nested run a trial, one partition, `ComputeModelStatistics`,
and SynapseML's defaults for all but the four parameters. MLflow's own list of models to log has SynapseML's LightGBM by
now, so that the list which the guide fetches from the network is not needed; and it takes no metric named R^2 any more.
"""

import json
import os
import sys
import time

import mlflow
from hyperopt import STATUS_OK, fmin, hp, tpe
from pyspark.sql import SparkSession
from synapse.ml.lightgbm import LightGBMRegressor
from synapse.ml.train import ComputeModelStatistics

from retune.spark import exit_jvm

_SPACE = {
    "alpha": hp.uniform("alpha", 0, 1),
    "learningRate": hp.uniform("learningRate", 0, 1),
    "numLeaves": hp.uniformint("numLeaves", 30, 50),
    "numIterations": hp.uniformint("numIterations", 20, 100),
}
_METRICS = {"MSE": "mean_squared_error", "RMSE": "root_mean_squared_error", "R2": "R^2", "MAE": "mean_absolute_error"}
_COLUMNS = {"featuresCol": "retune_features", "labelCol": "retune_label"}


def main() -> None:
    train_path, validation_path, trials, autolog = sys.argv[1:]
    spark = SparkSession.builder.getOrCreate()
    if mlflow.get_experiment_by_name("guide") is None:
        mlflow.create_experiment("guide", artifact_location=f"file://{os.environ['RETUNE_HOME']}/guide")
    mlflow.set_experiment("guide")
    if autolog == "autolog":
        mlflow.pyspark.ml.autolog()
    train = spark.read.parquet(train_path).select(*_COLUMNS.values()).repartition(1).cache()
    validation = spark.read.parquet(validation_path).select(*_COLUMNS.values())
    train.count()

    def objective(setting: dict[str, float]) -> dict[str, object]:
        with mlflow.start_run(nested=True):
            whole = {name: int(setting[name]) for name in ("numLeaves", "numIterations")}
            model = LightGBMRegressor(objective="quantile", **{**setting, **whole}, **_COLUMNS).fit(train)
            statistics = ComputeModelStatistics(
                evaluationMetric="regression", labelCol=_COLUMNS["labelCol"], scoresCol="prediction"
            )
            row = statistics.transform(model.transform(validation)).collect()[0].asDict()
            for name, column in _METRICS.items():
                mlflow.log_metric(name, row[column])
        return {"loss": -row["R^2"], "status": STATUS_OK}

    started = time.perf_counter()
    with mlflow.start_run():
        fmin(fn=objective, space=_SPACE, algo=tpe.suggest, max_evals=int(trials), show_progressbar=False)
    print(json.dumps({"loop_s": time.perf_counter() - started}), flush=True)
    spark.stop()
    exit_jvm(0)  # or threads that SynapseML leaves behind keep it, at times forever


if __name__ == "__main__":
    main()
