"""One Airflow DAG for each experiment file; wiring only."""

from retune import settings
from retune_airflow.factory import build_dags

globals().update(build_dags(settings.experiments_folder()))
