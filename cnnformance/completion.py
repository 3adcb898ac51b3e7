"""Completion of the command line in shells: ``cnnformance completion bash | zsh``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping

import shtab

from cnnformance.adapters import registry
from cnnformance.reports.places import FOLDER
from cnnformance.spec.layers import TYPES


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script by which ``bash`` or ``zsh`` completes the words of a command.

    Beside commands and options it completes runs by their names, which are looked up as they are
    completed, subjects by those that are known now, layer types, files and folders.
    """
    runs = _or_files("runs", ["latest", "previous", f"$(ls {FOLDER} 2>/dev/null)"])
    subjects = _or_files("subjects", registry.registered())
    ways = {
        **dict.fromkeys(("RUN", "OLD", "NEW"), runs),
        **dict.fromkeys(("SUBJECT", "S"), subjects),
        "L": _or_files("layers", TYPES),
        "FILE": shtab.FILE,
        "FOLDER": shtab.DIRECTORY,
    }
    for action in _actions(parser):
        if isinstance(action.metavar, str) and action.metavar in ways:
            vars(action)["complete"] = ways[action.metavar]
    return shtab.complete(parser, shell)


def _or_files(name: str, words: Iterable[str]) -> Mapping[str, object]:
    """Return how shells complete words, which are theirs to expand, or a file in their place."""
    function, listed = f"_cnnformance_{name}_or_files", " ".join(words)
    return {
        "bash": function,
        "zsh": function,
        "preamble": {
            "bash": f'{function}() {{ compgen -W "{listed}" -- "$1"; compgen -f -- "$1"; }}',
            "zsh": f"{function}() {{ compadd {listed}; _files }}",
        },
    }


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield what the parser, and those of its commands, take."""
    for action in parser._actions:  # noqa: SLF001 - argparse lists them nowhere else
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - nor these
            for command in action.choices.values():
                yield from _actions(command)
