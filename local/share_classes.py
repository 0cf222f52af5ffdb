"""Have Java keep Spark's classes as it needs them: `share_classes.py FOLDER`, in a file there that later starts map.

Java else reads and checks some 16,000 classes anew in every job: nearly a third of the time of a short one.

Run by spark-submit, this file is the job that uses the classes which most jobs do.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SUBMIT = "org.apache.spark.deploy.SparkSubmit"


def keep(folder: Path) -> None:
    """Run the job with all that Spark's own scripts give to Java, but for its configuration folder.

    Java takes no folder with files in it on the class path of an archive. A job has those jars in front of that
    folder, by `spark.driver.extraClassPath`.
    """
    java = f"{os.environ['JAVA_HOME']}/bin/java"
    jars = f"{os.environ['SPARK_HOME']}/jars/*"
    launcher = [java, "-cp", jars, "org.apache.spark.launcher.Main", SUBMIT, "--master", "local[2]", __file__]
    environment = {**os.environ, "SPARK_SCALA_VERSION": "2.12"}
    written = subprocess.run(launcher, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    arguments = written.partition(java)[2].strip("\0\n").split("\0")
    arguments[arguments.index("-cp") + 1] = jars
    archive = folder / "classes.jsa"
    options = [
        *_base(java, folder / "java.jsa"),
        f"-XX:ArchiveClassesAtExit={archive}",
        f"-Dlog4j2.configurationFile={(Path(os.environ['SPARK_CONF_DIR']) / 'log4j2.properties').as_uri()}",
    ]
    subprocess.run([java, *options, *arguments], check=True)
    if not archive.exists():
        sys.exit("Java ended well, but wrote no archive")


def _base(java: str, archive: Path) -> list[str]:
    """Return the option that names an archive of Java's own classes, where Java was packaged without one."""
    if (Path(java).parents[1] / "lib" / "server" / "classes.jsa").exists():
        return []
    option = f"-XX:SharedArchiveFile={archive}"
    subprocess.run([java, "-Xshare:dump", option], check=True)
    return [option]


def use() -> None:
    """Do a little of what the stages do."""
    from pyspark.ml import Pipeline, PipelineModel
    from pyspark.ml.feature import SQLTransformer, StringIndexer, VectorAssembler
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F

    spark = SparkSession.builder.getOrCreate()
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "rows.csv"
        csv.write_text("a,b,c\n" + "".join(f"{row / 7},{'xyz'[row % 3]},{row}\n" for row in range(300)))
        rows = spark.read.csv(str(csv), header=True, inferSchema=True)
        parts = rows.withColumn("part", F.expr("xxhash64(isnull(a), a, b) % 4")).withColumn("flag", F.col("a") > 20)
        parts.write.parquet(f"{folder}/parts")
        read = spark.read.parquet(f"{folder}/parts").cache()
        read.groupBy("part", "b").agg(F.count("*"), F.avg("a"), F.var_pop("c"), F.countDistinct("b")).collect()
        shown = SQLTransformer(statement="select *, coalesce(a, 0) as filled, double(flag) as flagged from __THIS__")
        index = StringIndexer(inputCol="b", outputCol="indexed", handleInvalid="keep")
        vector = VectorAssembler(inputCols=["filled", "flagged", "indexed"], outputCol="features")
        Pipeline(stages=[shown, index, vector]).fit(read).write().save(f"{folder}/pipeline")
        features = PipelineModel.load(f"{folder}/pipeline").transform(read)
        features.withColumn("array", vector_to_array("features")).drop("array").write.parquet(f"{folder}/features")
        held = spark.read.parquet(f"{folder}/features").repartition(1).persist()
        held.orderBy("a").limit(20).collect()
        held.select("features", "a").mapInPandas(lambda batches: batches, held.select("features", "a").schema).count()
        held.union(held).join(read.select("c").distinct(), "c").toPandas()
    spark.stop()


if __name__ == "__main__":
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        use()
    else:
        keep(Path(sys.argv[1]))
