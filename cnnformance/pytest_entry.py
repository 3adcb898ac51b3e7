"""The pytest entry point: loads the plugin in sessions that run this suite, and in no others.

It adds no option and imports nothing in anyone else's session.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import cnnformance

_PLUGIN = "cnnformance.pytest_plugin"


def _is_ours(argument: str) -> bool:
    if argument.startswith("cnnformance.conformance"):
        return True
    folders = [Path(place).resolve() / "conformance" for place in cnnformance.__path__]
    path = Path(argument.partition("::")[0]).resolve()
    return any(path == folder or folder in path.parents for folder in folders)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Load the plugin when a path or module of the suite is named on the command line."""
    if any(_is_ours(argument) for argument in args if not argument.startswith("-")):
        early_config.pluginmanager.import_plugin(_PLUGIN)
