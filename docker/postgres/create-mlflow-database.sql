-- The image creates Airflow's database itself (POSTGRES_DB); this runs once, after it.
CREATE DATABASE mlflow;
