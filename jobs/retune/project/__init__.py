"""The MLflow project: `main` and `train`, which need neither Spark nor Airflow, and `pipeline`."""
