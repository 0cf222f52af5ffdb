"""The Spark session of a job, and what the cluster behind it offers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession

from retune.errors import BadInput, RetuneError, SparkLost, TrialHung
from retune.settings import why_no_java

# Each says of every trial what nobody has to mend: a pool that no file describes, a plan too long to print.
_WARNS_OF_NOTHING = ("scheduler.FairSchedulableBuilder", "sql.catalyst.util.SparkStringUtils")
_early: Future[SparkSession] | None = None


def start_early() -> None:
    """Start the Spark application from another thread; `spark_session` waits for it, and meets whatever went wrong."""
    global _early
    starter = ThreadPoolExecutor(1)
    _early = session = starter.submit(_start)
    # A JVM's first query costs a second more than its next; nobody waits for this one.
    starter.submit(lambda: session.result().range(1).collect())


@contextmanager
def spark_session(name: str) -> Iterator[SparkSession]:
    """Start the job's Spark application (master and resources come from spark-submit) and stop it at the end.

    Raises:
        BadInput: There is no Java to run it.
    """
    spark = _early.result() if _early else _start(name)
    hung = False
    try:
        with losing_spark_told_apart(spark):
            yield spark
    except TrialHung:
        hung = True  # it might wait for the trial that nothing ends
        raise
    finally:
        with suppress(Py4JError, OSError):  # it may be gone
            # `spark.stop()` waits up to a second for PySpark's own server, which below spark-submit ends anyway.
            if not hung:
                (spark.sparkContext._jsc if _below_spark_submit() else spark).stop()


def _start(name: str | None = None) -> SparkSession:
    if no_java := why_no_java():
        raise BadInput(no_java)
    builder = SparkSession.builder.appName(name) if name else SparkSession.builder
    # FAIR: trials that run side by side get equal shares. With one job at a time it changes nothing.
    builder = builder.config("spark.sql.session.timeZone", "UTC").config("spark.scheduler.mode", "FAIR")
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    log4j: Any = cast(Any, spark._jvm).org.apache.logging.log4j
    for name in _WARNS_OF_NOTHING:
        log4j.core.config.Configurator.setLevel(f"org.apache.spark.{name}", log4j.Level.ERROR)
    tell_cores(spark)
    return spark


def tell_cores(spark: SparkSession) -> None:
    """Write into Spark's conf what local mode leaves out: SynapseML would run a job before every fit to learn it."""
    context = spark.sparkContext
    if str(context.master).startswith("local["):
        context._conf.setIfMissing("spark.executor.cores", str(Slots.of(spark).cores))


@contextmanager
def losing_spark_told_apart(spark: SparkSession) -> Iterator[None]:
    """Turn any exception into `SparkLost` if the application is gone: then it says nothing of what was being tried.

    Raises:
        SparkLost: The JVM does not answer any more, or its Spark context was stopped.
    """
    try:
        yield
    except RetuneError:
        raise  # says what it is
    except Exception as error:
        try:
            gone = bool(spark.sparkContext._jsc.sc().isStopped())
        except Exception:  # whatever Py4J makes of a JVM that is not there
            gone = True
        if gone:
            raise SparkLost(f"the Spark application is gone ({type(error).__name__})") from error
        raise


def copy_from_local(spark: SparkSession, path: str, uri: str) -> str:
    """Copy a local file or folder to `uri`, which the cluster can read, and return that."""
    hadoop = cast(Any, spark._jvm).org.apache.hadoop.fs
    target = hadoop.Path(uri)
    target.getFileSystem(spark._jsc.hadoopConfiguration()).copyFromLocalFile(hadoop.Path(path), target)
    return uri


def exit_jvm(code: int) -> None:
    """End the JVM that spark-submit started, with the job's exit code.

    SynapseML leaves a thread pool behind for every fit, which ends only when the garbage collector happens upon it;
    until then the JVM, and with it spark-submit, would outlive the job, at times forever.
    """
    # There the JVM is YARN's application master, which ends itself and takes any other exit for a failure.
    is_application_master = "APPLICATION_WEB_PROXY_BASE" in os.environ
    if not _below_spark_submit() or is_application_master:
        return
    java_lang = SparkContext._gateway.jvm.java.lang
    with suppress(Py4JError):  # the answer never comes
        if code == TrialHung.exit_code:
            java_lang.Runtime.getRuntime().halt(code)  # shutdown hooks would wait for what hangs
        java_lang.System.exit(code)


def _below_spark_submit() -> bool:
    return "PYSPARK_GATEWAY_PORT" in os.environ and SparkContext._gateway is not None


@dataclass(frozen=True)
class Slots:
    """The cluster as a distributed fit sees it.

    Attributes:
        executors: Processes that run tasks; 1 in local mode.
        cores: Cores of each that tasks can use at once.
    """

    executors: int
    cores: int

    @classmethod
    def of(cls, spark: SparkSession) -> Slots:
        """Count what has registered; ask after a first action, since executors of a cluster come up with a delay."""
        infos = spark.sparkContext._jsc.sc().statusTracker().getExecutorInfos()
        executors = max(1, len(infos) - 1)  # the driver is one of them
        return cls(executors, max(1, tasks_at_once(spark) * task_cpus(spark) // executors))


def tasks_at_once(spark: SparkSession) -> int:
    """Return how many tasks can run side by side; `defaultParallelism` is what a cluster's configuration sets it to."""
    context = spark.sparkContext._jsc.sc()
    return max(1, int(context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile())))


def executor_memory(spark: SparkSession) -> int:
    """Return the bytes that Java may take in an executor; in local mode the driver is the executor."""
    context = spark.sparkContext
    text = context.getConf().get("spark.executor.memory", "1g")
    jvm: Any = context._jvm
    if str(context.master).startswith("local"):
        return int(jvm.java.lang.Runtime.getRuntime().maxMemory())
    return int(jvm.org.apache.spark.network.util.JavaUtils.byteStringAsBytes(text))


def task_cpus(spark: SparkSession) -> int:
    """Return how many cores a task has."""
    # Not `getConf()`, which copies all there is, call by call.
    return int(spark.sparkContext._conf.get("spark.task.cpus", "1") or 1)


def hash_of_rows(columns: list[str], seed: int | None = None) -> str:
    """Return the SQL of a 64-bit hash over `columns` that tells null from absent and does not hang on their order."""
    parts = [] if seed is None else [f"{seed}L"]
    for name in sorted(columns):
        parts += [f"isnull({quote(name)})", quote(name)]
    return f"xxhash64({', '.join(parts)})"


def quote(name: str) -> str:
    """Return a column name as SQL takes it, whatever characters it has."""
    return "`" + name.replace("`", "``") + "`"


def read_parquet(spark: SparkSession, uri: str) -> DataFrame:
    """Read what an upstream stage wrote.

    Raises:
        BadInput: It is not there any more.
    """
    from pyspark.errors import AnalysisException

    try:
        return spark.read.parquet(uri)
    except AnalysisException as error:
        raise BadInput(
            f"{uri} cannot be read ({str(error).splitlines()[0]}); run the stage that wrote it again"
        ) from error
