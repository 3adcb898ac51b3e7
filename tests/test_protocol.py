"""docs/protocol.md tells the protocol that is spoken: its examples are parsed, and sent."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest

import cnnformance
from cnnformance.adapters import npm, protocol, wire
from cnnformance.spec.layers import from_json

ROOT = Path(cnnformance.__file__).resolve().parents[1]
sys.path.append(str(ROOT / "docs"))
import protocol_schema  # noqa: E402 # pyright: ignore[reportMissingImports] - found by the path

PAGE = (ROOT / "docs" / "protocol.md").read_text("utf-8")
VALIDATOR = jsonschema.Draft202012Validator(protocol_schema.published())
DEFINED = protocol_schema.published()["$defs"]


@dataclass
class Message:
    """A message of the page: who sends it, its header and the bytes of its arrays."""

    sent: bool
    header: dict[str, Any]
    data: bytes


def _blocks(mark: str) -> list[str]:
    return re.findall(rf"<!-- {mark} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)


def _conversation(text: str) -> list[Message]:
    found = re.findall(r"^([<>]) (.*)\n((?:  .*\n)?)", text, re.MULTILINE)
    return [Message(way == ">", json.loads(head), bytes.fromhex(data)) for way, head, data in found]


CONVERSATIONS = [_conversation(text) for text in _blocks("conversation")]
MESSAGES = [message for each in CONVERSATIONS for message in each]


def _bytes(message: Message) -> bytes:
    text = json.dumps(message.header).encode()
    return len(text).to_bytes(8, "little") + text + message.data


def _requested(header: Mapping[str, Any]) -> protocol.AnyRequest:
    kinds: dict[str, type[protocol.AnyRequest]] = {
        kind.ask: kind for kind in get_args(protocol.AnyRequest)
    }
    return kinds[header["ask"]](**{name: _frozen(value) for name, value in header.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def test_the_published_schema_is_that_of_the_types() -> None:
    assert protocol_schema.FILE.read_text("utf-8") == protocol_schema.text(), "run `make schema`"


def test_the_page_shows_every_request_and_every_status() -> None:
    assert {m.header["ask"] for m in MESSAGES if m.sent} == protocol.ANSWERS.keys()
    assert {m.header["status"] for m in MESSAGES if not m.sent} == {
        "ok",
        "unsupported",
        "exception",
    }


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: json.dumps(m.header)[:60])
def test_a_message_of_the_page_fits_the_schema_and_the_wire(message: Message) -> None:
    VALIDATOR.validate(message.header)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(_bytes(message))
        ours.shutdown(socket.SHUT_WR)
        header, arrays = wire.receive(theirs, 5)
        with pytest.raises(wire.Closed):
            wire.receive(theirs, 5)
    forms = [{"dtype": a.dtype.name, "shape": list(a.shape)} for a in arrays]
    assert {**header, "arrays": forms} == message.header
    assert b"".join(a.tobytes() for a in arrays) == message.data
    if message.sent and "layer" in message.header:
        from_json(message.header["layer"])


def test_each_answer_of_the_page_answers_the_request_before_it() -> None:
    for conversation in CONVERSATIONS:
        pairs = list(zip(conversation[::2], conversation[1::2], strict=True))
        assert len(pairs) > 3
        for asked, answered in pairs:
            assert asked.sent
            assert not answered.sent
            protocol.answer(_requested(asked.header), answered.header)


def test_the_suite_sends_the_requests_of_the_page() -> None:
    for message in MESSAGES:
        if message.sent:
            request = _requested(message.header)
            assert {f.name for f in fields(request)} == message.header.keys()


def test_the_bytes_of_the_page_are_those_of_its_message() -> None:
    (text,) = _blocks("bytes")
    length, header, data = text.splitlines()
    assert bytes.fromhex(length) == len(header).to_bytes(8, "little")
    assert hex(len(header)) in PAGE
    ours, theirs = socket.socketpair()
    with ours, theirs:
        x = np.array([[-1, 2]], np.float32)
        request = {name: v for name, v in json.loads(header).items() if name != "arrays"}
        wire.send(ours, request, [x])
        ours.shutdown(socket.SHUT_WR)
        sent = theirs.makefile("rb").read()
    assert sent == bytes.fromhex(length) + header.encode() + bytes.fromhex(data)


def _talk(command: list[str], conversation: list[Message]) -> Iterator[tuple[Message, Message]]:
    """Send each request of a conversation, and yield the answer of the page and that of it."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603
        assert process.stdin is not None
        assert process.stdout is not None
        for asked, answered in zip(conversation[::2], conversation[1::2], strict=True):
            process.stdin.write(_bytes(asked))
            process.stdin.flush()
            length = int.from_bytes(process.stdout.read(8), "little")
            header = json.loads(process.stdout.read(length))
            data = process.stdout.read(_size(header))
            yield answered, Message(sent=False, header=header, data=data)
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(10) == 0


def _size(header: Mapping[str, Any]) -> int:
    forms = header["arrays"]
    return sum(np.dtype(f["dtype"]).itemsize * int(np.prod(f["shape"])) for f in forms)


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    """Return the backend of the page as a file."""
    (text,) = _blocks("worker")
    file = tmp_path / "worker"
    file.write_text(text, "utf-8")
    file.chmod(0o755)
    return file


def test_the_backend_of_the_page_answers_as_the_page_says(worker: Path) -> None:
    for expected, answer in _talk([sys.executable, str(worker)], CONVERSATIONS[0]):
        assert answer == expected


def test_the_backend_of_the_page_is_fine(worker: Path) -> None:
    from cnnformance.trial import attempt  # noqa: PLC0415 - a command, which imports much

    found = attempt(str(worker))
    assert found.fine, found.text()
    right = {column for column, word in found.cells["Dense"].items() if word == "ok"}
    assert right == {"float32", "float64", "options", "calls", "count"}


@pytest.mark.skipif(not npm.installed("tfjs"), reason=f"needs Node, and {npm.remedy('tfjs')}")
def test_tensorflow_js_answers_as_the_page_says() -> None:
    command = [shutil.which("node") or "", str(ROOT / "adapters" / "tfjs.mjs")]
    for expected, answer in _talk(command, CONVERSATIONS[1]):
        if "layers" in expected.header:
            expected.header["version"] = answer.header["version"]
            shown = expected.header["layers"].keys()
            layers = answer.header["layers"]
            answer.header["layers"] = {name: layers[name] for name in shown}
        assert answer == expected


# --- what is refused, by the types as by the schema ------------------------------------------

ANSWERED = [
    (asked.header, answered.header)
    for each in CONVERSATIONS
    for asked, answered in zip(each[::2], each[1::2], strict=True)
]


def _kind(asked: Mapping[str, Any], answer: Mapping[str, Any]) -> type[protocol.AnyAnswer]:
    kinds = {"unsupported": protocol.Declined, "exception": protocol.Raised}
    return kinds.get(answer["status"], protocol.ANSWERS[asked["ask"]])


def _spoilt(asked: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the answer with each field missing, or of another type, and with one too many."""
    needed = {f.name for f in fields(_kind(asked, answer)) if f.default is MISSING}
    wrong: Sequence[Any] = (None, 1.5, [[]], {"": 1})
    for name in answer:
        if name in needed:
            yield {n: value for n, value in answer.items() if n != name}
        for value in (*wrong, 1 if name == "deterministic" else True):
            yield {**answer, name: value}
    yield {**answer, "sahpe": [1]}


def test_what_the_schema_refuses_the_suite_refuses_too() -> None:
    count = 0
    for asked, answer in ANSWERED:
        request = _requested(asked)
        protocol.answer(request, dict(answer))
        name = _kind(asked, answer).__name__
        of_kind = VALIDATOR.evolve(schema={"$ref": f"#/$defs/{name}", "$defs": DEFINED})
        of_kind.validate(answer)
        for spoilt in _spoilt(asked, answer):
            with pytest.raises(jsonschema.ValidationError):
                of_kind.validate(spoilt)
            with pytest.raises(wire.WireError):
                protocol.answer(request, spoilt)
            count += 1
    assert count > 200
