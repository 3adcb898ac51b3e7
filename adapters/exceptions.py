"""The exceptions of a request to a backend: what may become of it, other than an answer.

``AdapterError`` and ``Died`` are raised in the worker. All others are raised in the suite, by
``Subject``.
"""

from __future__ import annotations


class AdapterError(Exception):
    """The adapter broke the interface's contract. The suite then raises ``AdapterBroke``."""


class Died(SystemExit):
    """The command that the backend is has ended, and with it ends the worker, in the same way.

    ``status`` is that with which it exited or, below zero, the signal that it died by.
    """

    def __init__(self, status: int) -> None:
        """Keep how the command ended."""
        how = f"died by signal {-status}" if status < 0 else f"exited with status {status}"
        super().__init__(f"the command {how}")
        self.status = status


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The framework raised an exception. Carries its type's name, message and traceback."""

    def __init__(self, raised: str, message: str, traceback: str) -> None:
        """Keep what the framework said."""
        super().__init__(f"{raised}: {message}")
        self.raised = raised
        self.message = message
        self.traceback = traceback


class AdapterBroke(Exception):  # noqa: N818 - named for what happened
    """The adapter did not keep the interface's contract, or its process did not start."""

    def __init__(self, message: str, traceback: str = "") -> None:
        """Keep what is wrong, and where."""
        super().__init__(message)
        self.traceback = traceback


class Unknown(AdapterBroke):
    """There is no such backend, mode or device: the subject's name means nothing."""


class Crashed(Exception):  # noqa: N818 - named for what happened
    """The process died while it held the request. Carries what it wrote to stderr."""

    def __init__(self, reason: str, stderr: str = "") -> None:
        """Keep how the process ended."""
        super().__init__(reason)
        self.stderr = stderr


class Hung(Crashed):
    """The process did not answer in time, and was killed."""


class Stopped(Exception):  # noqa: N818 - named for what happened
    """The request is not put: others like it hung, for example. The message says why."""


class Unavailable(Stopped):
    """The version that a subject asks for cannot be had here; the message says why."""
