"""Conformance suite for CNN layers: one specification, every framework, proof instead of tolerance.

The package's five parts (``spec``, ``reference``, ``adapters``, ``conformance`` and ``reports``)
are folders at the top of a clone, and sub-packages here in an installed wheel. Importing this
package imports no framework.
"""

from pathlib import Path

__version__ = "0.1.0"

_here = Path(__file__).resolve().parent
if not (_here / "spec").is_dir():  # a clone: the five folders stand beside this one
    __path__ = [str(_here), str(_here.parent)]  # and not behind the links of a strict install
