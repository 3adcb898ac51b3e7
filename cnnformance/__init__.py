"""Conformance suite for CNN layers: one specification, every framework, proof instead of tolerance.

The package's five parts (``spec``, ``reference``, ``adapters``, ``conformance`` and ``reports``)
are folders at the top of a clone, and sub-packages here in an installed wheel. Importing this
package imports no framework.

``check`` puts one function to the questions about its layer, ``conformance_test`` makes a test of
it; both are in ``checking``, which is imported at their first use.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnformance.checking import check, conformance_test

__all__ = ["__version__", "check", "conformance_test"]

__version__ = "0.1.0"

_here = Path(__file__).resolve().parent
if not (_here / "spec").is_dir():  # a clone: the five folders stand beside this one
    __path__ = [str(_here), str(_here.parent)]  # and not behind the links of a strict install


def __getattr__(name: str) -> Any:
    if name not in ("check", "conformance_test"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cnnformance import checking  # noqa: PLC0415 - it needs NumPy, which the package does not

    return getattr(checking, name)
