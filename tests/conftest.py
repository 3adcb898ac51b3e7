"""What the tests need of pytest: the marker of the questions, some of which they import."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make known the marker that the plugin adds when questions are asked."""
    config.addinivalue_line("markers", "clauses(*ids): the clauses of the spec that a test checks")
