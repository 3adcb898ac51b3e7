"""The drawing of cases by Hypothesis: the same cases for the same key."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from unittest import mock

import hypothesis
from hypothesis import HealthCheck, Phase, errors
from hypothesis.internal.conjecture import providers
from hypothesis.strategies import SearchStrategy

from cnnformance.conformance.cases import Case

_SETTINGS = hypothesis.settings(
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
    report_multiple_bugs=False,
    print_blob=False,
)


def draw(
    cases: SearchStrategy[Case],
    count: int,
    key: str,
    asked: Callable[[Case], None],
    *phases: Phase,
) -> None:
    """Draw so many cases, the same for a key, and give each to ``asked``; raises what it raises."""

    def one(case: Case) -> None:  # short: Hypothesis parses the source of its test
        asked(case)

    settings = hypothesis.settings(_SETTINGS, max_examples=count, phases=phases)
    drawn = settings(hypothesis.given(cases)(one))
    # all were declined: ``declined`` says why
    with contextlib.suppress(errors.Unsatisfiable), _no_constants():
        hypothesis.seed(zlib.crc32(key.encode()))(drawn)()


def _no_constants() -> contextlib.AbstractContextManager[object]:
    """Return a context in which Hypothesis draws no constants of the modules that it finds loaded.

    With them, what is asked would depend on what else was imported, and so on earlier questions.
    """
    name, provider = "_maybe_draw_constant", providers.HypothesisProvider
    if not hasattr(provider, name):  # an older version draws none
        return contextlib.nullcontext()
    return mock.patch.object(provider, name, lambda *_, **__: None)  # noqa: PT008 - it keeps no calls
