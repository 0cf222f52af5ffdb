"""The five steps: each reads upstream outputs, does its work on Spark, and publishes what it wrote."""
