"""SIGINT and SIGTERM ask for a stop between two rounds; a second one stops at once."""

from __future__ import annotations

import signal
import threading
from typing import Any


class StopSignal:
    """A context in which `asked` turns true at the first signal. Does nothing outside the main thread."""

    asked = False

    def __enter__(self) -> StopSignal:
        self.before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {s: signal.signal(s, self.ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
