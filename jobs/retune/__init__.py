"""retune: keeps machine-learning models tuned with Airflow, Spark, Hyperopt and MLflow."""

__version__ = "0.1.0"
