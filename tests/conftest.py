"""What the tests need of pytest: markers of questions, and of targets; and a browser."""

import pytest
from browsing import browser, shown

__all__ = ["browser", "shown"]


def pytest_configure(config: pytest.Config) -> None:
    """Make known the marker that the plugin adds when questions are asked, and those of targets."""
    for marker in (
        "clauses(*ids): the clauses of the spec that a test checks",
        "trials: every adapter against the NumPy one, and against its own word (make trials)",
        "hostile: backends that hang, crash, lie and leave children behind (make hostile)",
    ):
        config.addinivalue_line("markers", marker)
