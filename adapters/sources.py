"""What the source of an adapter tells, which is read and not run: no framework is imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

_OURS = frozenset({"cnnformance", "numpy", "ml_dtypes"})
"""What every adapter may import besides its framework."""

UNKNOWN = "?"
"""In the place of what the source does not tell."""


@dataclass(frozen=True)
class Source:
    """The parsed source of a module."""

    tree: ast.Module

    def imported(self) -> Iterator[str]:
        """Yield the full name of everything that is imported, in order."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names=names):
                    yield from (alias.name for alias in names)
                case ast.ImportFrom(module=str(module), names=names, level=0):
                    yield from (f"{module}.{alias.name}" for alias in names)

    def frameworks(self) -> list[str]:
        """Return the packages that are imported, other than Python's and the suite's own."""
        tops = dict.fromkeys(name.partition(".")[0] for name in self.imported())
        return [name for name in tops if name not in _OURS | sys.stdlib_module_names]

    def attributes(self, name: str) -> dict[str, Any]:
        """Return the attributes of a class of this name, those of its bases in this file included.

        ``UNKNOWN`` stands for a value that is not known before the module runs.
        """
        return _attributes(self.tree, name)


def read(file: Path) -> Source | None:
    """Return the source of a file; None where it is unreadable."""
    try:
        return Source(ast.parse(file.read_bytes()))
    except (OSError, SyntaxError, ValueError):
        return None


def of(module: str) -> Source | None:
    """Return the source of a module, None where there is none; no package is imported for it."""
    file = _file(module)
    return read(file) if file else None


def _file(module: str) -> Path | None:
    """Return the file of a module without importing it or the packages that hold it."""
    top, *rest = module.split(".")
    loaded = sys.modules.get(top)
    found = getattr(loaded, "__spec__", None) if loaded else util.find_spec(top)
    name = top
    for part in rest:
        if found is None or found.submodule_search_locations is None:
            return None
        places = list(getattr(loaded, "__path__", found.submodule_search_locations))
        name, loaded = f"{name}.{part}", None
        finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
        found = next((s for find in finders if find and (s := find(name, places))), None)
    return Path(found.origin) if found and found.origin else None


def _literal(node: ast.AST, names: Mapping[str, ast.AST]) -> Any:
    """Return the value of a literal, which may name others; of a condition, its first branch.

    Raises:
        ValueError: the value is not known before the module runs.
    """
    match node:
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            values: list[Any] = []
            for element in elements:
                if isinstance(element, ast.Starred):
                    values += _literal(element.value, names)
                else:
                    values.append(_literal(element, names))
            return tuple(values)
        case ast.Name(id=name) if name in names:
            return _literal(names[name], names)
        case ast.IfExp(body=body):
            return _literal(body, names)
        case ast.Constant(value=value):
            return value
        case _:
            raise ValueError(ast.dump(node))


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value


def _attributes(tree: ast.Module, name: str) -> dict[str, Any]:
    """Return the class attributes that can be read off the source, bases of the file included."""
    names = dict(_assigned(tree.body))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        return {}
    found: dict[str, Any] = {}
    for base in classes[name].bases:
        if isinstance(base, ast.Name) and base.id != name:
            found |= _attributes(tree, base.id)
    for attribute, value in _assigned(classes[name].body):
        try:
            found[attribute] = _literal(value, names)
        except (ValueError, TypeError):
            found[attribute] = UNKNOWN
    return found


def version(package: str) -> str:
    """Return ``package version``, or that it is not installed."""
    if util.find_spec(package) is None:
        return f"{package}: not installed"
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:  # the distribution has another name
        names = metadata.packages_distributions().get(package, [])
        return f"{package} {metadata.version(names[0]) if names else UNKNOWN}"
