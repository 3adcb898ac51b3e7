"""Published networks: what their authors state, and what each subject counts and computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnformance.reports.records import Run, Verdict, VerdictName
from cnnformance.reports.tables import called, happened
from cnnformance.spec.layers import Shape, to_json
from cnnformance.spec.networks import Network


@dataclass(frozen=True)
class StepView:
    """A layer of a network, with the shape and the count that its source gives."""

    name: str
    layer: str
    shape: str
    parameters: str


@dataclass(frozen=True)
class Checked:
    """What became of one question about a network: ``what`` it is about, such as shapes."""

    what: str
    verdict: VerdictName
    message: str


@dataclass(frozen=True)
class NetworkView:
    """A network and its source; ``checked`` are in the order of the run's subjects."""

    name: str
    source: str
    input: str
    parameters: str
    steps: tuple[StepView, ...]
    checked: tuple[tuple[Checked, ...], ...]


def networks(run: Run, known: Mapping[str, Network]) -> tuple[NetworkView, ...]:
    """Return the networks that a run asked about, in the order of the specification."""
    found: dict[str, dict[str, list[Checked]]] = {}
    for verdict in run.verdicts:
        name, what = _about(verdict)
        if what and name in known:
            checked = Checked(what, verdict.verdict, happened(verdict))
            found.setdefault(name, {}).setdefault(verdict.subject, []).append(checked)
    return tuple(
        NetworkView(
            name,
            network.source,
            _sizes(network.input),
            f"{network.parameters:,}",
            tuple(
                StepView(
                    step.name,
                    called(to_json(step.layer)),
                    _sizes(step.shape or ()),
                    f"{step.parameters:,}" if step.parameters else "",
                )
                for step in network.steps
            ),
            tuple(
                tuple(sorted(found[name].get(s, ()), key=lambda c: c.what)) for s in run.subjects
            ),
        )
        for name, network in known.items()
        if name in found
    )


def _sizes(shape: Shape) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape))


def _about(verdict: Verdict) -> tuple[str, str]:
    """Return the network that a question is about, and what it asks; empty where it asks none.

    Such a question is FILE::test_network_WHAT[NAME].
    """
    test, _, name = verdict.question.partition("::")[2].removesuffix("]").partition("[")
    what = test.removeprefix("test_network_")
    return (name, what.replace("_", " ")) if what != test else ("", "")
