"""Loads the suite's plugin when the questions are run from a clone."""

pytest_plugins = ["cnnformance.pytest_plugin"]
