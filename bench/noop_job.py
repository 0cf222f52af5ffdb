"""The job that does nothing: what any PySpark job that writes to MLflow has to import and start."""

import mlflow
import mlflow.store.tracking.sqlalchemy_store
import mlflow.tracking
import pyspark.ml
from pyspark.sql import SparkSession

if __name__ == "__main__":
    spark = SparkSession.builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    spark.stop()
    print(f"did nothing with MLflow {mlflow.__version__} and PySpark {pyspark.__version__}")
