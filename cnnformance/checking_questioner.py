"""The process that puts the questions about some layer types to the backend of ``check``.

It has pytest to itself: whoever calls ``check`` may be in a session of pytest, a notebook or a
thread, and keeps the backend.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection

import pytest

from cnnformance import pytest_items

_NOT_OF_A_FUNCTION = ("test_gradients.py", "test_special_gradients.py", "test_parameters.py")
"""The files whose questions are all about what one function cannot say."""


class About:
    """Keeps the questions that a function can be asked: about its layers, in its dtypes."""

    def __init__(self, layers: Collection[str], dtypes: Collection[str]) -> None:
        """Name the layer types and the dtypes."""
        self.layers = layers
        self.dtypes = dtypes

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out all others, and those about several layers."""
        items[:] = [item for item in items if self._asks(item)]

    def _asks(self, item: pytest.Item) -> bool:
        layer_type = pytest_items.layer_type(item)
        takes = pytest_items.params(item).get("dtype") in (None, *self.dtypes)
        its = getattr(layer_type, "__name__", "") in self.layers
        return its and takes and item.path.name not in _NOT_OF_A_FUNCTION


def main(arguments: list[str]) -> int:
    """Ask, as the options of ``check`` (JSON) say; return the exit status of pytest."""
    options = json.loads(arguments[0])
    return int(
        pytest.main(options["arguments"], plugins=[About(options["layers"], options["dtypes"])])
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
