"""Reads the pipelines that stages save: Spark's own stages, and trainers' that only Python knows."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any, cast

from pyspark import SparkContext
from pyspark.ml import PipelineModel
from pyspark.ml.pipeline import PipelineSharedReadWrite
from pyspark.ml.util import JavaMLReader
from pyspark.ml.wrapper import JavaParams

# A model's files name the classes to load, so only of these modules is a class of Python's loaded.
_PYTHON_STAGES = ("xgboost.spark.",)


def load_pipeline(uri: str) -> PipelineModel:
    """Load a saved pipeline of Spark's own stages and trainers'.

    By Java's reader where it can: `PipelineModel.load` would start a Python worker, for a second, to find that it may.
    A pipeline with a stage that only Python knows was written by PySpark under its own name, and each of its stages is
    read by whom it belongs to. PySpark's reader is no help there: SynapseML, once imported, has put its own in that
    place, which refuses classes of any library but Spark and itself.
    """
    metadata = _model_metadata(uri)
    if not metadata["class"].startswith("pyspark."):
        return cast(PipelineModel, JavaMLReader(PipelineModel).load(uri))
    uids = metadata["paramMap"]["stageUids"]
    path = PipelineSharedReadWrite.getStagePath
    return PipelineModel([_load_stage(path(uid, i, len(uids), f"{uri}/stages")) for i, uid in enumerate(uids)])


def _load_stage(uri: str) -> Any:
    name = _model_metadata(uri)["class"]
    if name.startswith("pyspark.ml.pipeline."):
        return load_pipeline(uri)
    if name.startswith(_PYTHON_STAGES):
        module, _, kind = name.rpartition(".")
        return getattr(import_module(module), kind).load(uri)
    context = SparkContext.getOrCreate()
    reader = context._jvm.org.apache.spark.ml.util.DefaultParamsReader
    return JavaParams._from_java(reader.loadParamsInstance(uri, context._jsc.sc()))


def _model_metadata(uri: str) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(SparkContext.getOrCreate()._jsc.textFile(f"{uri}/metadata", 1).first()))
