"""The two ways a command can end badly: the user's input, or the run itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input or bad usage. One line: what, where, what to do. The command line prints it and exits with 2."""


class RunError(RuntimeError):
    """The run failed in spite of good input. The command line prints the one line and exits with 1."""


class Collapsed(RunError):
    """The generator has narrowed, and the run is to start again. A checkpoint has been written."""


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM ended a training; in a run directory its checkpoint is written. The command line exits with 130. Like
    KeyboardInterrupt it is no Exception: a search or a loop that goes on past fits that fail is to end."""


def suggest(word: str, choices: Iterable[str]) -> str:
    """' Did you mean X?' for the nearest of `choices`, else the list of them; ready to append to a message."""
    names = sorted(choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else f" Choose from: {', '.join(names)}."


def unreadable(path: object, error: OSError) -> InputError:
    """What to say of a file that is there and may be whole, but cannot be read."""
    return InputError(f"{path} cannot be read ({error.strerror or error}); make it readable, or try again.")


def shown(text: object) -> str:
    """`text` on one printable line: file names may hold line breaks and bytes that are not UTF-8."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))
