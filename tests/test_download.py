"""Downloads against a real server on this machine: resumed, verified, and refused in one line."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import socket
import ssl
import sys
import threading
import urllib.error
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from datasets import refused
from latentforge.data import download as module
from latentforge.data.download import download

BODY = np.random.default_rng(0).bytes(1_000_000)
MD5 = hashlib.md5(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Behaves as the first part of the path says."""

    def do_GET(self):
        kind = self.path.split("/")[1]
        asked = self.headers.get("Range")
        self.server.log.append((kind, asked))
        start = int(re.match(r"bytes=(\d+)-", asked).group(1)) if asked else 0
        body = b"x" * len(BODY) if kind == "bad" else BODY
        if kind == "missing":
            self.send_error(404)
            return
        if kind in ("norange", "short") or not asked:
            start = 0
            self.send_response(200)
        elif start >= len(body):
            self.send_error(416)
            return
        else:
            self.send_response(206)
            shift = 1 if kind == "wrongplace" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(body) - 1}/{len(body)}")
        if kind == "short":
            body = b"<html>no such file</html>"
        if kind != "chunked":
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = kind == "cut" or (kind == "cutonce" and self.server.log.count((kind, None)) == 1 and not asked)
        self.wfile.write(body[start : start + 300_000] if cut else body[start:])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.log = []
    thread = threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = lambda kind: f"http://127.0.0.1:{server.server_port}/{kind}/data.bin"
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "set" / "data.bin"


def only(target):
    """Nothing but the file itself is left in its folder."""
    return [p.name for p in target.parent.iterdir()] == [target.name]


def test_fresh(server, target):
    seen = []
    result = download([server.url("ok")], target, md5=MD5, progress=lambda *a: seen.append(a))
    assert result == target
    assert target.read_bytes() == BODY
    assert only(target)
    assert seen[-1] == (len(BODY), len(BODY))
    assert [a for a, _ in seen] == sorted(a for a, _ in seen)


def test_present_and_right_is_not_fetched(server, target):
    target.parent.mkdir()
    target.write_bytes(BODY)
    download([server.url("ok")], target, md5=MD5, size=len(BODY))
    assert server.log == []
    assert only(target)


def test_present_and_wrong_is_replaced(server, target):
    target.parent.mkdir()
    target.write_bytes(b"old")
    download([server.url("ok")], target, md5=MD5)
    assert target.read_bytes() == BODY


def start_part(target, data):
    target.parent.mkdir(exist_ok=True)
    part = target.with_name("data.bin.part")
    part.write_bytes(data)
    return part


def test_resumed(server, target):
    start_part(target, BODY[:400_000])
    download([server.url("ok")], target, md5=MD5, size=len(BODY))
    assert target.read_bytes() == BODY
    assert server.log == [("ok", "bytes=400000-")]
    assert only(target)


def test_server_without_range(server, target):
    start_part(target, BODY[:400_000])
    download([server.url("norange")], target, md5=MD5)
    assert target.read_bytes() == BODY


def test_part_already_whole(server, target):
    start_part(target, BODY)
    download([server.url("ok")], target, md5=MD5, size=len(BODY))
    assert server.log == []
    start_part(target, BODY)
    target.unlink()
    download([server.url("ok")], target, md5=MD5)  # size unknown: the server says 416
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("size", [None, len(BODY)])
@pytest.mark.parametrize("stale", [b"stale" * 1000, b"y" * 2_000_000])
def test_stale_part_is_started_again(server, target, stale, size):
    start_part(target, stale)
    download([server.url("ok")], target, md5=MD5, size=size)
    assert target.read_bytes() == BODY


def test_continued_at_the_wrong_place(server, target):
    start_part(target, BODY[:1000])
    download([server.url("wrongplace"), server.url("ok")], target, md5=MD5)
    assert target.read_bytes() == BODY


def test_bad_checksum_then_good_mirror(server, target):
    download([server.url("bad"), server.url("ok")], target, md5=MD5)
    assert target.read_bytes() == BODY
    assert only(target)


@pytest.mark.parametrize(("first", "tries"), [("missing", 1), ("short", 1), ("cut", 3)])
def test_next_mirror(server, target, first, tries):
    download([server.url(first), server.url("ok")], target, md5=MD5, size=len(BODY))
    assert target.read_bytes() == BODY
    assert [kind for kind, _ in server.log] == [first] * tries + ["ok"]


def test_cut_connection_is_continued(server, target):
    download([server.url("cutonce")], target, md5=MD5)
    assert target.read_bytes() == BODY
    assert server.log == [("cutonce", None), ("cutonce", "bytes=300000-")]


def test_no_open_file_is_removed_where_that_cannot_be(server, target, monkeypatch):
    """As on Windows, where the attempt would hide why nothing could be fetched."""
    opened, locked, unlink = [], module._locked, Path.unlink

    @contextlib.contextmanager
    def noted(part):
        with locked(part) as file:
            opened.append(file)
            yield file

    def closed_first(path, missing_ok=False):
        assert all(file.closed for file in opened)
        unlink(path, missing_ok)

    monkeypatch.setattr(module, "_locked", noted)
    monkeypatch.setattr(module, "WINDOWS", True)
    monkeypatch.setattr(Path, "unlink", closed_first)
    refused(lambda: download([server.url("missing")], target, md5=MD5), "HTTP 404")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(BODY)
    assert download([server.url("ok")], target, md5=MD5) == target
    assert len(opened) == 2
    assert only(target)


def test_cut_for_good_keeps_the_part(server, target):
    refused(lambda: download([server.url("cut")], target, md5=MD5), "data.bin", "cut off after 900,000 of 1,000,000")
    assert target.with_name("data.bin.part").read_bytes() == BODY[:900_000]
    assert not target.exists()


def test_unannounced_length(server, target):
    download([server.url("chunked")], target, md5=MD5)
    assert target.read_bytes() == BODY


def test_only_bad_mirrors(server, target):
    message = refused(
        lambda: download([server.url("bad"), server.url("missing")], target, md5=MD5),
        "data.bin",
        "wrong checksum",
        "HTTP 404",
        "--data-dir DIR",
        "LATENTFORGE_DATA",
    )
    assert "DIR/set/" in message
    assert not target.parent.exists()  # nothing is left behind


def test_nothing_listening(target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused(
        lambda: download([f"http://127.0.0.1:{port}/data.bin"], target, md5=MD5, timeout=5),
        "could not fetch data.bin",
        "127.0.0.1",
        "refused",
        "--data-dir DIR",
    )
    assert not target.parent.exists()  # nothing is left behind


def test_silent_server(target):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/data.bin"
        refused(lambda: download([url], target, md5=MD5, timeout=0.3), "no answer in time")


def test_certificates_are_those_of_macos_where_python_has_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "truststore", SimpleNamespace(SSLContext=lambda protocol: "the system's"))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert module._certificates("darwin") == "the system's"
    assert module._certificates("linux") is None
    monkeypatch.setitem(sys.modules, "truststore", None)
    assert module._certificates("darwin") is None
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "unable to get local issuer certificate"
    assert "local issuer certificate: set SSL_CERT_FILE" in module._why(urllib.error.URLError(error))


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:99999/x", "http:///x"])
def test_odd_addresses(target, url):
    refused(lambda: download([url], target, md5=MD5, timeout=1), "data.bin")


def test_disk_full_keeps_the_part(server, target, monkeypatch):
    """A file that takes 500,000 bytes and then answers as a full disk does."""
    real = open

    class Full:
        def __init__(self, file):
            self.file = file
            self.left = 500_000

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if len(data) > self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.left -= len(data)
            return self.file.write(data)

    monkeypatch.setattr(module, "open", lambda *a: Full(real(*a)), raising=False)
    refused(
        lambda: download([server.url("ok")], target, md5=MD5),
        target,
        "No space left on device",
        "data.bin.part",
        "free",
    )
    monkeypatch.undo()
    part = target.with_name("data.bin.part").read_bytes()
    assert 0 < len(part) <= 500_000
    assert BODY.startswith(part)
    download([server.url("ok")], target, md5=MD5)
    assert target.read_bytes() == BODY


def test_a_part_that_goes_away_is_told(server, target):
    """As where something cleans the cache meanwhile."""
    part = target.with_name("data.bin.part")
    refused(
        lambda: download([server.url("ok")], target, md5=MD5, progress=lambda *_: part.unlink(missing_ok=True)),
        target,
        "No such file",
    )


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("x")
    refused(lambda: download([server.url("ok")], tmp_path / "file" / "set" / "x", md5=MD5), tmp_path / "file")


def test_eight_at_once(server, target):
    errors = []

    def work():
        try:
            download([server.url("ok")], target, md5=MD5)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert target.read_bytes() == BODY
    assert only(target)
    assert len(server.log) == 1
