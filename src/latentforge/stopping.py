"""SIGINT and SIGTERM ask for a stop between two rounds; a second one stops at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any


def keep_ctrl_c(windows: bool = os.name == "nt") -> None:
    """Leave Ctrl-C to Python on Windows: the Fortran that comes with Intel's numpy ends the process at it, unless it is told
    before it is loaded."""
    if windows:
        os.environ.setdefault("FOR_DISABLE_CONSOLE_CTRL_HANDLER", "1")


class StopSignal:
    """A context in which `asked` turns true at the first signal. Does nothing outside the main thread, and leaves handlers
    alone that a host of this Python has set: they could not be given back."""

    asked = False

    def __enter__(self) -> StopSignal:
        self.before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            ours = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is not None]
            self.before = {s: signal.signal(s, self.ask) for s in ours}
        return self

    def ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
