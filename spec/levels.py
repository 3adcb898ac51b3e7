"""On what authority a clause stands."""

from __future__ import annotations

from typing import Literal

Level = Literal["document", "semantics", "precision", "gradient"]
"""The document itself; a cited authority where it is silent; a proven bound; the backward pass."""
