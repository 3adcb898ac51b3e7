"""The backend class that a subject's path names, imported: in its process, or in this one."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from cnnformance.adapters import foreign, function, registry
from cnnformance.adapters.backend import Backend

MODE = "CNNFORMANCE_MODE"
"""For frameworks that read their environment when they are imported, such as Keras."""


class NoBackend(Exception):  # noqa: N818 - an answer
    """There is no such backend class."""


@cache
def find(target: str, mode: str = "") -> type[Backend]:
    """Return the backend class at ``package.module:Class`` or ``path/to/file.py:Class``.

    Where a function or a command is named, that is the backend made of it. While the module is
    imported, the environment variable ``MODE`` holds the mode that is asked for.

    Raises:
        NoBackend: there is no such module, file, class or function, it is not a ``Backend``, or its
            annotation names no layer type. What the module itself raises passes through.
    """
    os.environ[MODE] = mode
    if registry.is_command(target):
        return foreign.of(str(Path(target).absolute()))
    place, _, name = target.rpartition(":")
    if place.endswith(".py"):
        module = _loaded(Path(place).resolve())
    else:
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if not f"{place}.".startswith(f"{error.name}."):
                raise
            raise NoBackend(f"there is no module {error.name}") from error
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, Backend):
        return found
    if callable(found) and not isinstance(found, type):
        try:
            return function.of(found)
        except function.NoLayerType as error:
            raise NoBackend(str(error)) from error
    raise NoBackend(
        f"{place} has no subclass of cnnformance.adapters.backend.Backend named {name}, "
        "and no function"
    )


def _loaded(path: Path) -> ModuleType:
    """Return the module of a file, under a name of its own: the file may be called ``torch.py``.

    Its neighbours can be imported, if no installed module has their name.
    """
    if not path.is_file():
        raise NoBackend(f"{path}: no such file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = f"cnnformance_adapter_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise NoBackend(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module
