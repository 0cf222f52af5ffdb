"""Travels with each model: PySpark looks here for the Python side of the JVM classes of a loaded SynapseML model.

PySpark derives a module's name from the JVM class's, and SynapseML's real one is called otherwise; SynapseML mends that
by a patch that is in place only once its package was imported. This makes a fresh process do so by itself.
"""

from synapse.ml.lightgbm import *
