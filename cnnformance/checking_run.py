"""The run of ``check``: a process of pytest asks, and a record holds what it found.

The function is served in the calling thread, or imported by a worker of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import cnnformance
from cnnformance.adapters import function as functions
from cnnformance.adapters.worker import serve
from cnnformance.reports import records

IMPORTING = "CNNFORMANCE_IMPORTING"
"""Set where a function is imported to be checked in isolation."""
_WAIT = 30.0
"""The longest wait, in seconds, for a process that has asked all to end."""


def asked_here(
    backend: type[functions.Function], folder: Path, arguments: Sequence[str]
) -> records.Run:
    """Serve the backend in this thread to a process that asks."""
    ours, theirs = socket.socketpair()
    arguments = [*arguments, "--backend", f"cnnformance.check:{backend.__name__}"]
    arguments += ["--link", str(theirs.fileno())]
    with _questioner(backend, folder, arguments, [theirs.fileno()]):
        theirs.close()
        with contextlib.closing(ours), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a worker process has no filter that makes errors
            with contextlib.suppress(ConnectionError):  # it is gone; what it said is told
                serve(ours, backend)
    return _read(folder)


def asked_elsewhere(
    backend: type[functions.Function], folder: Path, arguments: Sequence[str]
) -> records.Run:
    """Have a worker import the function, by an adapter that is written for it."""
    function = backend.function
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    holder = sys.modules.get(module)
    file = getattr(holder, "__file__", None)
    found = getattr(holder, name, None)
    if function not in (found, getattr(found, "function", None)) or file is None:
        said = f"isolated: {name or function!r} cannot be imported elsewhere"
        raise ValueError(f"{said}; a function at the top of a file or module can")
    lines = ["from cnnformance.adapters import function", "from cnnformance.spec import layers"]
    if module in ("__main__", "__mp_main__"):
        lines += [
            "import runpy",
            f"found = runpy.run_path({str(Path(file).resolve())!r})[{name!r}]",
        ]
    else:
        lines += [f"from {module} import {name} as found"]
    layer_types = "".join(f"layers.{layer_type.__name__}, " for layer_type in backend.kinds)
    options = f"dtypes={backend.dtypes!r}, layout={backend.layout!r}"
    lines += ["found = getattr(found, 'function', found)"]  # of a test that was made of it
    lines += [f"Checked = function.of(found, ({layer_types}), {options})"]
    adapter = folder / "checked.py"
    adapter.write_text("\n".join(lines), encoding="utf-8")
    arguments = [*arguments, "--backend", f"{adapter}:Checked"]
    with _questioner(backend, folder, arguments, path=sys.path):
        pass
    return _read(folder)


@contextlib.contextmanager
def _questioner(
    backend: type[functions.Function],
    folder: Path,
    arguments: Sequence[str],
    descriptors: Collection[int] = (),
    path: Sequence[str] = (),
) -> Iterator[None]:
    """Start the process that asks, and wait for its end on leaving; it is ended on an exception."""
    questions = next(p for p in _places() if p.is_dir())
    options = {
        "layers": [layer_type.__name__ for layer_type in backend.kinds],
        "dtypes": backend.dtypes,
        "arguments": [
            str(questions), "-c", os.devnull, "--rootdir", str(questions.parent), *arguments,
            "-p", "cnnformance.pytest_plugin", "-p", "no:cacheprovider", "-q", "--tb=no",
            "--record", str(folder / records.FILE),
        ],
    }  # fmt: skip
    package = str(Path(cnnformance.__file__).resolve().parents[1])
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("PYTEST", "PYTHONWARN"))}
    searched = [package, *(path or [os.environ.get("PYTHONPATH", "")])]
    environment = {
        **inherited,
        **({} if descriptors else {IMPORTING: "1"}),
        "PYTHONPATH": os.pathsep.join(filter(None, searched)),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
            [sys.executable, "-P", "-m", "cnnformance.checking_questioner", json.dumps(options)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            pass_fds=list(descriptors),
        )
    try:
        yield
        process.wait(_WAIT if descriptors else None)
    finally:
        process.kill()
        process.wait()


def _places() -> Iterator[Path]:
    return (Path(place) / "conformance" for place in cnnformance.__path__)


def _read(folder: Path) -> records.Run:
    """Return what was recorded.

    Raises:
        ValueError: an option is wrong.
        RuntimeError: not all was recorded.
    """
    said = (folder / "said").read_text(encoding="utf-8", errors="replace").strip()
    try:
        run = records.read(folder / records.FILE)
    except records.RecordError:
        run = None
    if run is None or run.partial:
        if wrong := re.search(r"(?m)^\S+: error: (.*)$", said):
            raise ValueError(wrong[1])
        raise RuntimeError(f"the questions could not be put: {said[-2000:]}")
    return run
