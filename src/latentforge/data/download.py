"""Fetch one file from the first mirror that has it: resumed, verified, renamed into place only when whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from latentforge.data.decode import reason, shown
from latentforge.errors import InputError
from latentforge.files import WINDOWS

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where known
TRIES = 3  # per mirror, each continuing where the last was cut off
BLOCK = 1 << 18


class _Failed(Exception):
    """This attempt brought no file; the text says why."""

    def __init__(self, text: str, retry: bool = False):
        super().__init__(text)
        self.retry = retry  # the same mirror may do better


def download(
    urls: Sequence[str],
    target: Path,
    *,
    md5: str,
    size: int | None = None,
    progress: Progress | None = None,
    timeout: float = 20,
) -> Path:
    """Fetch `target` from the first of `urls` that delivers a file with the right checksum.

    What arrives is kept in `target` + ".part" and continued with HTTP Range, by the next call too. A file with a wrong
    checksum is removed and the next mirror asked. `size` in bytes, where known, rejects a wrong file early. `timeout`
    seconds without a byte ends an attempt. Raises InputError when no mirror delivers, and when the disk is full or not
    writable.
    """
    target = Path(target)
    part = target.with_name(target.name + ".part")
    failures = []
    new_folder = not target.parent.exists()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(part) as file:
            if target.exists() and digest(target) == md5:  # another process was faster
                _let_go(file)
                part.unlink(missing_ok=True)
                return target
            for url in urls:
                try:
                    _fetch(url, file, md5, size, progress, timeout)
                except _Failed as failure:
                    failures.append(f"{urlsplit(url).hostname}: {failure}")
                    continue
                file.flush()
                os.fsync(file.fileno())
                _let_go(file)
                os.replace(part, target)
                return target
            if os.fstat(file.fileno()).st_size == 0:
                _let_go(file)
                part.unlink(missing_ok=True)
        if new_folder:
            with contextlib.suppress(OSError):  # not empty: a part is kept
                target.parent.rmdir()
    except OSError as error:
        kept = f"; what has arrived is kept in {shown(part)}" if part.exists() else ""
        raise InputError(
            f"cannot write {shown(target)}: {error.strerror or reason(error)}{kept}; "
            "free some space or choose another folder with --data-dir or LATENTFORGE_DATA"
        ) from None
    raise InputError(
        f"could not fetch {shown(target.name)} ({'; '.join(failures)}); without a connection, put the file into "
        f"DIR/{shown(target.parent.name)}/ and pass --data-dir DIR or set LATENTFORGE_DATA=DIR"
    )


@contextlib.contextmanager
def _locked(part: Path):
    """`part` open for reading and appending, by one process at a time: the ranks of a cluster node start together."""
    while True:
        file = open(part, "a+b")  # noqa: SIM115 (closed below, on every path)
        try:
            with contextlib.suppress(ImportError):  # Windows has no fcntl, and no ranks on one node either
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            same = False
            with contextlib.suppress(FileNotFoundError):
                same = os.path.samestat(os.fstat(file.fileno()), os.stat(part))
            if same:
                yield file
                return
        finally:
            file.close()  # the holder before us renamed this file into place: open a new one


def _let_go(file: BinaryIO) -> None:
    """Before a file is renamed or removed: Windows does neither to an open one, others keep the lock until it is done."""
    if WINDOWS:
        file.close()


def _fetch(url: str, file: BinaryIO, md5: str, size: int | None, progress: Progress | None, timeout: float) -> None:
    """Complete `file` from `url` and verify it. _Failed where that is not possible; a wrong file is emptied."""
    for attempt in range(1, TRIES + 1):
        start = _length(file)
        if not (start and start == size):
            try:
                _transfer(url, file, size, progress, timeout)
            except _Failed as failure:
                if failure.retry and attempt < TRIES:
                    continue
                raise
        file.flush()
        found = digest(Path(file.name))
        if found == md5:
            return
        file.truncate(0)
        if start == 0:
            raise _Failed(f"wrong checksum (md5 {found}, expected {md5})")
        # The part from an earlier attempt may have been the bad half: once more, from the start.
    raise _Failed(f"wrong checksum (md5, expected {md5})")


def _transfer(url: str, file: BinaryIO, size: int | None, progress: Progress | None, timeout: float) -> None:
    """Append the rest of `url` to `file`, or all of it where the server does not continue."""
    start = _length(file)
    if size is not None and start > size:
        file.truncate(0)
        start = 0
    headers = {"User-Agent": "latentforge", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.urlopen(request, timeout=timeout, context=_certificates())
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # the part is as long as the file, or longer: the checksum decides
            return
        raise _Failed(f"HTTP {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Failed(_why(error)) from None
    with response:
        if start and (response.status != 206 or not _continues(response.headers.get("Content-Range"), start)):
            if response.status == 206:
                raise _Failed("continued at the wrong place")
            file.truncate(0)
            start = 0
        announced = response.headers.get("Content-Length")
        total = start + int(announced) if announced and announced.isdecimal() else None
        if size is not None and total is not None and total != size:
            raise _Failed(f"offers {total:,} bytes, expected {size:,}")
        done = start
        while True:
            try:
                block = response.read(BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _Failed(f"cut off after {done:,} bytes ({_why(error)})", retry=True) from None
            if not block:
                break
            file.write(block)
            done += len(block)
            if size is not None and done > size:
                file.truncate(0)
                raise _Failed(f"sends more than the {size:,} bytes expected")
            if progress:
                progress(done, total or size)
    if done < (total or size or 0):
        raise _Failed(f"cut off after {done:,} of {total or size:,} bytes", retry=True)


def _certificates(system: str = sys.platform) -> ssl.SSLContext | None:
    """Checks servers by the certificates of macOS, of which Python from python.org knows none, where `truststore` is installed
    (it comes with the client of Hugging Face); None is Python's own way."""
    if system == "darwin" and "SSL_CERT_FILE" not in os.environ:
        with contextlib.suppress(ImportError):
            import truststore

            return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return None


def _length(file: BinaryIO) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size


def _continues(content_range: str | None, start: int) -> bool:
    match = re.match(r"bytes (\d+)-", content_range or "")
    return bool(match) and int(match.group(1)) == start  # type: ignore[union-attr]


def digest(path: Path) -> str:
    """MD5 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _why(error: BaseException) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = getattr(cause, "verify_message", "") or reason(cause)
        return f"no certificate to trust, {why}: set SSL_CERT_FILE or, on macOS, run 'Install Certificates.command'"
    return getattr(cause, "strerror", None) or reason(cause if isinstance(cause, BaseException) else error)
