"""Two subjects compared for whoever ports a model from one to the other.

What is shown is measured: by questions put to both, by running what is to be written instead, and
from the records of runs. A subject that is only recorded is compared by its records alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cnnformance.adapters import registry
from cnnformance.adapters.exceptions import AdapterBroke, Unavailable
from cnnformance.adapters.subject import Subject
from cnnformance.conformance import (
    topics_layout,
    topics_offers,
    topics_values,
    topics_windows,
)
from cnnformance.conformance.contrast import Both, Side
from cnnformance.conformance.topics import Topic, measured
from cnnformance.reports import divergences, records
from cnnformance.reports.compare import Comparison, Party, Row
from cnnformance.reports.places import FILE, FOLDER, RecordError, resolve
from cnnformance.reports.records import Run

_SECONDS = 20.0
"""How long one call may take: what hangs costs its own rows."""

TOPICS: tuple[Topic, ...] = tuple(
    {
        **topics_layout.TOPICS,
        **topics_windows.TOPICS,
        **topics_offers.TOPICS,
        **topics_values.TOPICS,
    }[name]
    for name in (
        "layout",
        "flatten",
        "padding",
        "averages",
        "rounding",
        "defaults",
        "dilation",
        "special",
        "gradients",
        "empty",
        "halves",
        "offers",
        "plain",
    )
)
"""In the order in which ports break."""


class NotComparable(ValueError):  # noqa: N818 - named for what is told
    """Two subjects that cannot be compared; one line with the remedy."""


def _runs(arguments: list[str], root: Path) -> tuple[Run | None, Run | None]:
    """Return the run of each subject: those that are named, or the newest, if there is one."""
    if len(arguments) > 2:
        raise NotComparable("--run is given at most twice: once for each subject")
    if arguments:
        named = [records.read(resolve(each, root)) for each in arguments]
        return named[0], named[-1]
    try:
        newest = records.read(resolve(None, root))
    except RecordError:
        if list(root.glob(f"{FOLDER}/*/{FILE}")):
            raise
        return None, None
    return newest, newest


def _version(run: Run, name: str) -> str:
    return next((s.version for s in run.header.subjects if s.subject == name), "")


def _same(recorded: str, asked: str) -> bool:
    """Whether two versions are one; what is asked may add those of its parts after a comma."""
    return recorded.partition(",")[0] == asked.partition(",")[0]


def _side(name: str, run: Run | None, *, named: bool) -> Side:
    """Return a subject that can be asked, or is recorded.

    Raises:
        NotComparable: it is neither; or a run that was named has no answers of it.
    """
    recorded = run is not None and name in run.subjects
    if run is not None and named and not recorded:
        there = ", ".join(run.subjects) or "none"
        raise NotComparable(f"{run.path} has no subject {name!r}; it has {there}")
    run = run if recorded else None
    try:
        return Side(name, "", Subject(registry.parse(name), seconds=_SECONDS), run)
    except registry.SubjectError as error:
        if run is not None:
            return Side(name, _version(run, name), None, run)
        raise NotComparable(str(error).removeprefix("--backend ")) from error


def _start(side: Side) -> None:
    """Wait for a subject to be there; one that does not start here may be recorded."""
    if side.subject is None:
        return
    try:
        side.version = side.subject.start().version
    except (AdapterBroke, Unavailable) as error:
        side.subject.close()
        if side.run is None:
            said = " ".join(str(error).split())
            raise NotComparable(f"{said}; see `cnnformance backends`") from error
        side.subject, side.version = None, _version(side.run, side.name)


def _place(run: Run, root: Path) -> Path:
    return run.path.relative_to(root) if run.path.is_relative_to(root) else run.path


def _party(side: Side, root: Path) -> Party:
    told = ["asked here"] if side.subject else ["not installed here"]
    if side.run:
        version = _version(side.run, side.name)
        other = "" if _same(version, side.version) else f" of {version}"
        told.append(f"recorded{other} in {_place(side.run, root)}")
    return Party(side.name, side.version, ", ".join(told))


def _notes(both: Both, root: Path) -> tuple[str, ...]:
    """Return what a reader must know of the records, and the divergences that they hold."""
    notes = []
    for side in both.sides:
        if side.run is None:
            notes.append(f"{side.name}: no run has its answers, so no traits and grades are shown")
            continue
        if side.run.partial:
            notes.append(f"{side.name}: its run is partial ({_place(side.run, root)})")
        version = _version(side.run, side.name)
        if side.subject and not _same(version, side.version):
            notes.append(f"{side.name}: {version} is recorded, and {side.version} was asked")
        for found in divergences.seen(side.run):
            if found.subject == side.name:
                link = f" {found.link}" if found.link else ""
                told = f"{', '.join(found.layers)}: {found.says}{link}"
                notes.append(f"{side.name}, recorded divergence {found.id}: {told}")
    return tuple(notes)


def compare(
    names: tuple[str, str],
    runs: list[str],
    root: Path,
    told: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Return the comparison of two subjects.

    Args:
        names: the subjects, as ``--backend`` names them or a record does.
        runs: a run that both are recorded in, or one for each; without any, the newest in
            ``root``, as far as it has them.
        root: the folder that relative names start from.
        told: is called with the title of each topic before it is measured.

    Raises:
        NotComparable: a subject is neither installed nor recorded, or both are the same.
        RecordError: a run cannot be read.
    """
    one, other = names
    if one == other and len(runs) < 2:
        raise NotComparable(
            f"{one} is compared with itself: name two subjects, or two runs of it with --run"
        )
    found = _runs(runs, root)
    named = bool(runs)
    both = Both((_side(one, found[0], named=named), _side(other, found[1], named=named)))
    try:
        if one == other:  # two versions: what is installed here is at most one of them
            for side in both.sides:
                _only_if_recorded_so(side)
        for side in both.sides:
            if side.subject:
                side.subject.launch()
        for side in both.sides:
            _start(side)
            side.begin()
        rows: list[Row] = []
        for topic in TOPICS:
            told(topic.title)
            rows.append(measured(topic, both))
        first, second = (_party(side, root) for side in both.sides)
        return Comparison((first, second), tuple(rows), _notes(both, root))
    finally:
        both.close()


def _only_if_recorded_so(side: Side) -> None:
    """Keep a subject of one name from being asked where another version is installed."""
    assert side.run is not None
    version = _version(side.run, side.name)
    if side.subject is None:
        return
    try:
        there = side.subject.start().version
    except (AdapterBroke, Unavailable):
        there = ""
    if not _same(there, version):
        side.subject.close()
        side.subject, side.version = None, version
