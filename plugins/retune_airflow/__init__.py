"""The Airflow side of retune: one DAG an experiment, one stage operator.

A package, kept from Airflow's plugin loader by `.airflowignore`: that would run each module here under its bare name.
"""
