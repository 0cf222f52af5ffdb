"""What every trainer must do, whatever its library: one suite over all trainers and problems."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from pyspark.errors.exceptions.captured import IllegalArgumentException
from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.testing.utils import assertDataFrameEqual

from retune import experiment
from retune.data.splits import LABEL, ROW_ID, SPLIT
from retune.errors import BadInput, root_cause
from retune.evaluation import score_splits
from retune.features.base import FEATURES
from retune.metrics import Problem
from retune.pipeline_reader import load_pipeline
from retune.placements.rows import laid_out
from retune.spark import Slots, tell_cores
from retune.trainers import load_trainer
from retune.trainers._spark_ml import SparkTrainer
from retune.trainers.base import PREDICTION, PROBABILITY, Trainer
from retune.trainers.base_cluster import EarlyStopping

TRAINERS = [name for name in experiment.TRAINERS if load_trainer(name).placement == "cluster"]
# Of two classes and of three, these do the same.
ALIKE = {("spark_linear", "binary"), ("spark_random_forest", "binary"), ("xgboost_spark", "binary")}
CASES = [
    (name, problem) for name in TRAINERS for problem in load_trainer(name).problems if (name, problem) not in ALIKE
]
CLASSES: dict[Problem, int] = {"regression": 0, "binary": 2, "multiclass": 3}
PLANTED = {
    "regression": "3 * a - 2 * b + 0.1 * noise",
    "binary": "double(a + b > 1)",
    "multiclass": "floor(a * 3) * 1.0",
}
QUICK = {
    "synapseml_lightgbm": {"numIterations": 30, "learningRate": 0.3, "minDataInLeaf": 5, "baggingFraction": 0.8,
                           "baggingFreq": 1, "featureFraction": 0.9},
    "spark_gbt": {"maxIter": 8, "stepSize": 0.4, "maxDepth": 4, "subsamplingRate": 0.8},
    "spark_linear": {"maxIter": 20},
    "spark_random_forest": {"numTrees": 8, "maxDepth": 6, "featureSubsetStrategy": "all"},
    "xgboost_spark": {"n_estimators": 20, "subsample": 0.8},
}  # fmt: skip
MORE_TREES: dict[str, dict[str, object]] = {
    "synapseml_lightgbm": {"numIterations": 60},
    "spark_gbt": {"maxIter": 16},
    "spark_random_forest": {"numTrees": 16},
    "xgboost_spark": {"n_estimators": 40},
}
# So that 15 rows of a category are enough.
CATEGORIES: dict[str, dict[str, object]] = {"synapseml_lightgbm": {"minDataPerGroup": 5, "catSmooth": 1.0}}
WRONG = {
    "synapseml_lightgbm": [
        ({"numLeaves": -5}, "num_leaves"),
        ({"objective": "no_such_objective"}, "no_such_objective|non-multiclass"),
        ({"learningRate": "fast"}, "fast"),
    ],
    "spark_gbt": [({"maxDepth": 31}, "maxDepth"), ({"impurity": "none"}, "impurity"), ({"stepSize": "fast"}, "fast")],
    "spark_linear": [({"regParam": -1.0}, "regParam"), ({"tol": "fast"}, "fast")],
    "spark_random_forest": [({"maxBins": 1}, "maxBins"), ({"featureSubsetStrategy": "none"}, "none")],
    "xgboost_spark": [({"max_depth": -5}, "^value -5 .*max_depth"), ({"tree_method": "exact"}, "exact"),
                      ({"booster": "none"}, "^Unknown gbm type none")],
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One trainer and one problem, with data and a model fitted to them."""

    trainer: Trainer
    problem: Problem
    rows: DataFrame
    laid_out: DataFrame
    model: Transformer

    @property
    def classes(self) -> int:
        return CLASSES[self.problem]

    def fit(self, rows: DataFrame, seed: int = 7, **parameters: object) -> Transformer:
        return self.trainer.fit(rows, QUICK[self.trainer.name] | parameters, self.problem, self.classes, seed)


def plant(spark: SparkSession, problem: Problem) -> DataFrame:
    """600 rows with two features that tell the label, one that does not, and missing values in each."""
    names = ["a", "b", "noise"]
    drawn = spark.range(600).selectExpr(
        f"xxhash64(id) AS {ROW_ID}", *[f"rand({i}) AS {n}" for i, n in enumerate(names)]
    )
    features = [F.expr(f"if(rand({9 + i}) > 0.02, {name}, double('NaN'))") for i, name in enumerate(names)]
    return drawn.select(
        ROW_ID,
        array_to_vector(F.array(*features)).alias(FEATURES),
        F.expr(PLANTED[problem]).cast("double").alias(LABEL),
        F.lit("train").alias(SPLIT),
    )


def as_sparse(rows: DataFrame) -> DataFrame:
    """Write the same vectors with their zeros left out."""
    sparse = F.udf(lambda v: Vectors.sparse(v.size, [(i, x) for i, x in enumerate(v.toArray()) if x != 0]), VectorUDT())
    return rows.withColumn(FEATURES, sparse(FEATURES))


def predictions(model: Transformer, rows: DataFrame) -> DataFrame:
    """Predict; with the probabilities, where there are some, since classes alone hide small differences."""
    out = model.transform(rows)
    return out.select(ROW_ID, PREDICTION, *[vector_to_array(n).alias(n) for n in out.columns if n == PROBABILITY])


@pytest.fixture(scope="module", params=CASES, ids=lambda pair: "-".join(pair))
def case(request: pytest.FixtureRequest, spark: SparkSession) -> Iterator[Case]:
    name, problem = request.param
    trainer = load_trainer(name)
    trainer.require(spark)
    rows = plant(spark, problem).cache()
    with laid_out(rows, trainer) as fit_rows:
        model = trainer.fit(fit_rows, QUICK[name], problem, CLASSES[problem], seed=7)
        yield Case(trainer, problem, rows, fit_rows, model)
    rows.unpersist()


def test_goes_by_the_name_of_the_experiment_file():
    assert [load_trainer(name).name for name in TRAINERS] == list(TRAINERS)


def test_prediction_is_added_and_for_classes_the_probability(case):
    out = case.model.transform(case.rows)
    added = dict(out.drop(*case.rows.columns).dtypes)
    assert added[PREDICTION] == "double"
    assert added.get(PROBABILITY) == ("vector" if case.classes else None)
    assert all(name.startswith("retune_") for name in {PREDICTION, PROBABILITY} & added.keys())
    assert out.where(F.col(PREDICTION).isNull() | F.isnan(PREDICTION)).isEmpty()


def test_probabilities_are_one_a_class_and_sum_to_one(case):
    if not case.classes:
        return
    probability = vector_to_array(PROBABILITY)
    total = F.aggregate(probability, F.lit(0.0), lambda sum_, p: sum_ + p)
    most_likely = F.call_function("array_position", probability, F.array_max(probability)) - 1
    out = case.model.transform(case.rows)
    assert out.where((F.size(probability) != case.classes) | (F.abs(total - 1) > 1e-6)).isEmpty()
    assert out.where(most_likely != F.col(PREDICTION)).isEmpty()


def test_planted_signal_is_learnt(case):
    metric = "accuracy" if case.classes else "r2"
    found = score_splits(case.model.transform(case.rows), case.problem, case.classes, metric)
    assert found[f"train_{metric}"] > 0.9


def test_same_seed_gives_the_same_model(case):
    assertDataFrameEqual(predictions(case.fit(case.laid_out), case.rows), predictions(case.model, case.rows), rtol=0)


def test_model_does_not_hang_on_how_the_rows_lay(case):
    shuffled = case.rows.orderBy(F.rand(5)).repartition(5)
    with laid_out(shuffled, case.trainer) as fit_rows:
        again = case.fit(fit_rows)
    assertDataFrameEqual(predictions(again, case.rows), predictions(case.model, case.rows), rtol=0)


def test_another_seed_gives_another_model(case):
    if case.trainer.name == "spark_linear":
        pytest.skip("its fits draw nothing")
    other = predictions(case.fit(case.laid_out, seed=8), case.rows)
    assert not other.exceptAll(predictions(case.model, case.rows)).isEmpty()


def test_wrong_parameters_raise_and_leave_the_session_able_to_fit(case):
    for parameters, named in WRONG[case.trainer.name]:
        with pytest.raises(Exception, match=r"\S") as raised:
            case.fit(case.laid_out, **parameters)
        assert re.search(named, root_cause(raised.value).splitlines()[0])
    case.fit(case.laid_out)


def test_model_is_saved_and_loaded_within_a_pipeline(case, tmp_path):
    PipelineModel(stages=[case.model]).write().save(str(tmp_path / "model"))
    loaded = load_pipeline(str(tmp_path / "model"))
    assertDataFrameEqual(predictions(loaded, case.rows), predictions(case.model, case.rows), rtol=0)


def test_nothing_else_is_added(case):
    added = {name for name in case.model.transform(case.rows).columns if name not in case.rows.columns}
    raw = {"rawPrediction"} if case.trainer.name == "synapseml_lightgbm" and case.classes else set()
    assert added == {PREDICTION, *([PROBABILITY] if case.classes else [])} | raw


def test_sparse_vectors_give_the_same(case):
    """In the fit and in predictions; a third of the values is 0, so that sparse vectors leave something out."""
    third = F.pmod(F.col(ROW_ID), F.lit(3)) == 0
    values = F.transform(vector_to_array(FEATURES), lambda x: F.when(third, F.lit(0.0)).otherwise(x))
    dense = case.rows.withColumn(FEATURES, array_to_vector(values))
    sparse = as_sparse(dense)
    with laid_out(dense, case.trainer) as rows:
        from_dense = case.fit(rows)
    with laid_out(sparse, case.trainer) as rows:
        from_sparse = case.fit(rows)
    expected = predictions(from_dense, dense)
    assertDataFrameEqual(predictions(from_dense, sparse), expected, rtol=0)
    assertDataFrameEqual(predictions(from_sparse, dense), expected, rtol=0)


def test_categories_are_told_apart_though_their_order_says_nothing(case):
    """The label goes by the remainder of the category's index; the last index is that of values not seen."""
    slots = {"nominal": [{"idx": 0, "name": "x", "vals": [*map(str, range(40)), "__unknown"]}],
             "numeric": [{"idx": 1, "name": "y"}]}  # fmt: skip
    rows = case.rows.withColumn("x", F.pmod(ROW_ID, F.lit(40)).cast("double")).select(
        ROW_ID,
        SPLIT,
        F.pmod("x", F.lit(max(2, case.classes))).cast("double").alias(LABEL),
        array_to_vector(F.array("x", F.lit(float("nan")))).alias(FEATURES),
    )
    marked = rows.withMetadata(FEATURES, {"ml_attr": {"attrs": slots, "num_attrs": 2}})
    with laid_out(marked, case.trainer) as fit_rows:
        model = case.fit(fit_rows, **CATEGORIES.get(case.trainer.name, {}))
    unseen = marked.limit(3).withColumn(FEATURES, array_to_vector(F.array(F.lit(40.0), F.lit(1.0))))
    assert model.transform(unseen).where(F.col(PREDICTION) >= -0.5).count() == 3
    if case.trainer.name == "spark_random_forest" and case.problem == "multiclass":
        pytest.skip("Spark sorts many categories by how mixed their classes are, and here none is")
    missed = model.transform(marked).where(F.abs(F.col(PREDICTION) - F.col(LABEL)) > 0.5)
    assert missed.count() < 0.05 * 600


def test_model_needs_nothing_but_the_features(case):
    assertDataFrameEqual(
        predictions(case.model, case.rows.select(ROW_ID, FEATURES)), predictions(case.model, case.rows), rtol=0
    )


def test_fits_leave_nothing_cached(case, spark):
    def cached() -> set[int]:
        return set(spark.sparkContext._jsc.getPersistentRDDs())

    before = cached()
    metric = "auc" if case.classes else "r2"
    with laid_out(case.rows.where(F.col(LABEL).isNotNull()), case.trainer) as fit_rows:
        score_splits(case.fit(fit_rows).transform(fit_rows), case.problem, case.classes, metric)
        assert len(cached()) == len(before) + 1
    assert cached() == before


@pytest.mark.parametrize("name", [name for name in TRAINERS if isinstance(load_trainer(name), SparkTrainer)])
def test_what_a_parameter_must_be_is_what_spark_takes(spark, name):
    trainer, asked = load_trainer(name), 0
    for estimator in (trainer.regressor(), trainer.classifier()):
        for param, (_, fine) in trainer.ranges("regression").items():
            for value in (-1, 0, 0.5, 1, 1.5, 2, 31) if estimator.hasParam(param) else ():
                try:
                    estimator._java_obj.getParam(param).w(estimator.getParam(param).typeConverter(value))
                    taken = True
                except TypeError:  # a whole number is wanted
                    continue
                except IllegalArgumentException:
                    taken = False
                assert fine(value) == taken, f"{param} = {value}"
                asked += 1
    assert asked > 30


def test_defaults_are_accepted_by_the_check_and_unknown_names_are_not(case, build_experiment):
    untuned = {name: value for name, value in case.trainer.defaults(case.problem).items() if value is not None}
    whole = next(name for name, value in untuned.items() if type(value) is int)
    del untuned[whole]
    search = {"metric": "accuracy" if case.classes else "r2", "max_trials": 1,
              "space": {whole: {"type": "uniformint", "low": 3, "high": 9}}}  # fmt: skip
    model = {"trainer": case.trainer.name, "untuned": untuned}
    case.trainer.check(build_experiment(case.problem, model=model, search=search))
    wrong = build_experiment(case.problem, model=model | {"fixed": {"no_such": 1}}, search=search)
    with pytest.raises(BadInput, match=r"^model\.fixed\.no_such: .* has no such parameter"):
        case.trainer.check(wrong)


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize(("copies", "executors"), [(0, 2), (1, 1), (1, 2), (100, 2), (100, 8)])
def test_layout_loses_no_row_and_asks_for_no_more_tasks_than_run_at_once(spark, name, copies, executors):
    rows = plant(spark, "regression").crossJoin(spark.range(copies).drop("id"))
    out = load_trainer(name).layout(rows, Slots(executors, cores=2))
    at_once = executors * (1 if name == "synapseml_lightgbm" else 2)
    assert out.rdd.getNumPartitions() <= at_once
    assertDataFrameEqual(out.select(ROW_ID), rows.select(ROW_ID))


@pytest.mark.parametrize("name", TRAINERS)
def test_layout_is_the_same_whatever_wrote_the_rows(spark, name):
    rows = plant(spark, "regression").crossJoin(spark.range(100).drop("id")).cache()
    trainer = load_trainer(name)

    def ids_by_partition(frame: DataFrame) -> list[list[int]]:
        laid = trainer.layout(frame, Slots(executors=3, cores=1)).select(ROW_ID)
        return laid.rdd.glom().map(lambda part: [row[0] for row in part]).collect()

    assert ids_by_partition(rows.orderBy(F.rand(2)).repartition(7)) == ids_by_partition(rows)


def test_a_fit_stops_early_on_rows_it_has_not_seen_and_tells_where(case):
    half = F.pmod(F.col(ROW_ID), F.lit(2)) == 0
    watched = EarlyStopping(case.laid_out.where(half), rounds=5)
    name = case.trainer.rounds_parameter
    if name is None:
        pytest.skip("a trainer without rounds, which `check` refuses")
    parameters = QUICK[case.trainer.name] | {name: 300}
    model = case.trainer.fit(
        case.laid_out.where(~half), parameters, case.problem, case.classes, 7, early_stopping=watched
    )
    rounds = case.trainer.rounds(model)
    assert 0 < rounds < 300
    assert case.trainer.rounds(case.model) == QUICK[case.trainer.name][name]


def test_every_rung_of_safer_settings_fits_alike(case):
    assert case.trainer.safer(0) == {}
    if not case.trainer.safer(9):
        pytest.skip("a trainer without safer settings")
    for rung in (1, 2, 9):
        assertDataFrameEqual(
            predictions(case.fit(case.laid_out, **case.trainer.safer(rung)), case.rows),
            predictions(case.model, case.rows),
            rtol=0,
        )


def test_a_fit_takes_no_more_tasks_than_there_are_partitions(case):
    """It would wait for the others, which never start."""
    if case.trainer.name != "synapseml_lightgbm":
        pytest.skip("no such parameter")
    more = case.fit(case.laid_out, numTasks=99)
    assertDataFrameEqual(predictions(more, case.rows), predictions(case.model, case.rows), rtol=0)


def test_the_size_of_a_model_grows_with_its_trees(case):
    if case.trainer.name not in MORE_TREES:
        assert case.trainer.model_size(case.model) > 1000
        pytest.skip("a trainer without trees")
    bigger = case.fit(case.laid_out, **MORE_TREES[case.trainer.name])
    assert 1000 < case.trainer.model_size(case.model) < case.trainer.model_size(bigger)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_native_code_is_loaded_once_a_process(case, spark):
    """SynapseML's own loader unpacks and loads a further copy for every fit and every scoring task."""
    if case.trainer.name != "synapseml_lightgbm":
        pytest.skip("no native code in the JVM")
    for _ in range(2):
        case.fit(case.laid_out).transform(case.rows).agg(F.sum(PREDICTION)).collect()
    jvm = spark._jvm.java.lang.ProcessHandle.current().pid()
    mapped = {line.split()[-1] for line in Path(f"/proc/{jvm}/maps").read_text().splitlines() if "lightgbm.so" in line}
    assert len(mapped) <= 1


def test_a_fit_tells_java_little_and_asks_nothing_back(case, spark):
    """SynapseML's own wrapper makes some 1,400 calls to fit and to predict: more than a tenth of a second."""
    if case.trainer.name != "synapseml_lightgbm":
        pytest.skip("Spark's own wrappers say less, and their fits take longer")
    java = spark.sparkContext._gateway._gateway_client
    with mock.patch.object(java, "send_command", wraps=java.send_command) as calls:
        case.fit(case.laid_out).transform(case.rows)
    assert calls.call_count < 400


def test_a_fit_is_two_jobs(case, spark):
    """SynapseML asks for the vectors' size, then fits; a job for the executors' cores would come before."""
    if case.trainer.name != "synapseml_lightgbm" or case.classes:
        pytest.skip("other fits take jobs for their rounds or classes")
    tell_cores(spark)
    spark.sparkContext.setJobGroup("a fit", "")
    case.fit(case.laid_out)
    spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)
    assert len(spark.sparkContext.statusTracker().getJobIdsForGroup("a fit")) == 2
