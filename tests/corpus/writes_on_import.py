"""A backend's module that writes to the standard files when it is imported; else honest."""

import os
import sys
from pathlib import Path

os.write(1, b'{"status": "ok"}\n' * 1000)
sys.stderr.write("E0000 unable to register factory\n")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpus.kernels import Honest  # noqa: E402 - the writing comes first


class WritesOnImport(Honest):
    """Honest once it is there."""
