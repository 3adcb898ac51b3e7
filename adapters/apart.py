"""The beginning of a worker in an environment that does not hold the suite.

The packages of the suite, and of an adapter, are found by their places alone: the folder in which
they are installed holds other packages too, of versions that this environment may not have.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from importlib import util
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class Places(MetaPathFinder):
    """Finds packages by their names in the files that hold them."""

    def __init__(self, files: Mapping[str, str]) -> None:
        """Find the package of each name in a file, its ``__init__.py``."""
        self.files = files

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - as the import system calls it
        target: ModuleType | None = None,  # noqa: ARG002 - likewise
    ) -> ModuleSpec | None:
        """Return where a package is, if it is one of those."""
        file = self.files.get(fullname)
        return util.spec_from_file_location(fullname, file) if file else None


def main(argv: Sequence[str]) -> None:
    """Start a fork server that finds the packages of the option ``places``."""
    options = json.loads(argv[0])
    sys.meta_path.insert(0, Places(options.pop("places")))
    importlib.import_module("cnnformance.adapters.fork_server").main([json.dumps(options)])


if __name__ == "__main__":
    main(sys.argv[1:])
