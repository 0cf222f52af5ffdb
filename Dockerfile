# One image for Airflow, MLflow and Spark. A driver and its executors must agree on Python, Spark and
# every library that a model touches, so they share one set of packages.
FROM python:3.11-slim-bookworm

# curl is for the health checks, libgomp1 for LightGBM's native code.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl libgomp1 openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/* \
    # Debian's own path names the processor.
    && ln -s "$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")" /usr/lib/jvm/java-17
ENV JAVA_HOME=/usr/lib/jvm/java-17

WORKDIR /opt/retune
COPY requirements.lock ./
COPY docker/requirements.txt docker/
RUN pip install --no-cache-dir --requirement requirements.lock --requirement docker/requirements.txt

# SynapseML's jars, of the version of its Python package: fetched once here, not at every submit.
COPY docker/spark/ spark-conf/
COPY local/unpack_native.py /tmp/
RUN version="$(python -c 'from importlib.metadata import version; print(version("synapseml"))')" \
    && spark-submit --master local --conf spark.jars.ivy=/tmp/ivy \
        --packages "com.microsoft.azure:synapseml-lightgbm_2.12:${version}" \
        --class org.apache.hadoop.util.VersionInfo spark-internal \
    && mv /tmp/ivy/jars jars \
    && rm -r /tmp/ivy \
    && python /tmp/unpack_native.py jars \
    # Plain paths: the driver serves the files to executors that don't run this image, too.
    && echo "spark.jars $(find "$PWD/jars" -name '*.jar' | sort | paste -sd, -)" \
        >> spark-conf/spark-defaults.conf
ENV SPARK_CONF_DIR=/opt/retune/spark-conf

# A new named volume takes its owner from the folder it is mounted on.
RUN useradd --create-home --uid 10001 retune \
    && install --directory --owner=retune --group=retune \
        /var/lib/retune/artifacts /var/lib/retune/shared /var/lib/retune/state

COPY dags/ dags/
COPY experiments/ experiments/
COPY jobs/ jobs/
COPY plugins/ plugins/
ENV PYTHONPATH=/opt/retune/jobs:/opt/retune/plugins \
    PYTHONUNBUFFERED=1

USER retune
