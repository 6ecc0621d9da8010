"""Images that do not fit in memory: they lie in a file, and all goes on as before."""

from __future__ import annotations

import ctypes
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from datasets import refused
from latentforge.cli.inputs import part_of
from latentforge.data import Dataset, Images, open_data, parquet, room
from latentforge.data.batch import free_on

GREYS = 251  # row i is all of the grey i mod 251


def encoded(n: int, side: int) -> list[bytes]:
    """n PNG files, each of one grey."""
    out = []
    for value in range(min(n, GREYS)):
        file = io.BytesIO()
        Image.new("L", (side, side), value).save(file, "png")
        out.append(file.getvalue())
    return [out[i % GREYS] for i in range(n)]


def write(path, n: int, side: int, group: int = 100) -> None:
    table = pa.table({"image": encoded(n, side), "label": [i % 3 for i in range(n)]})
    pq.write_table(table, path, row_group_size=group)


@pytest.mark.parametrize("kind", ["parquet", "folder", "resized"])
def test_on_disk_as_in_memory(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, options = tmp_path / "a.parquet", {}
    write(path, 90, 12, 7)
    if kind == "folder":
        path = tmp_path / "images"
        for split in ("train", "test"):
            (path / split).mkdir(parents=True)
            for i, data in enumerate(encoded(40, 12)):
                (path / split / f"{i}.png").write_bytes(data)
    elif kind == "resized":
        path, options = tmp_path / "a.npz", {"image_size": 11, "channels": 3}
        np.savez(path, images=np.random.default_rng(0).integers(0, 256, (50, 12, 12), np.uint8))
    wanted = open_data(path, **options)
    monkeypatch.setattr(room, "available_memory", lambda: 16_000)
    found = open_data(path, **options)
    assert "more than fits in memory" in " ".join(found.notes)
    assert not any("more than fits" in note for note in wanted.notes)
    assert found.fingerprint == wanted.fingerprint
    assert list((tmp_path / "cache" / "latentforge").iterdir()) == []  # the file has no name, and goes with the process


def test_bad_images_are_left_out_on_disk_too(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = encoded(30, 12)
    images[4] = images[4][:40]
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    wanted = open_data(tmp_path / "a.parquet", skip_bad=True)
    monkeypatch.setattr(room, "available_memory", lambda: 7500)
    assert open_data(tmp_path / "a.parquet", skip_bad=True).fingerprint == wanted.fingerprint


def test_what_is_chosen_of_many_images_lies_on_disk_too(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pixels = torch.randint(0, 256, (1200, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = Images(pixels, torch.arange(1200) % 3 - 1)
    data = Dataset("x", "x", images, images, images)

    def found() -> list[Images]:
        few, spread = torch.arange(1199, -1, -2), images.spread(700)
        return [images.select(few), images.labelled(), images.select(spread), part_of(data, "all")]

    wanted, files, mapped = found(), [], room.mapped
    monkeypatch.setattr(room, "available_memory", lambda: 0)
    monkeypatch.setattr(room, "mapped", lambda *what: (files.append(what), mapped(*what))[1])
    for a, b in zip(wanted, found(), strict=True):
        assert torch.equal(a.pixels, b.pixels)
        assert (a.labels is None) == (b.labels is None)
        assert a.labels is None or torch.equal(a.labels, b.labels)
    assert [shape[0] for shape, _ in files] == [600, 800, 700, 3600]
    assert list((tmp_path / "cache" / "latentforge").iterdir()) == []


def test_rows_are_read_a_few_groups_at_a_time(tmp_path):
    write(tmp_path / "a.parquet", 300, 8, 10)
    rows, labels, _ = parquet.columns(tmp_path / "a.parquet", "a")
    assert len(rows) == 300
    assert labels.tolist() == [i % 3 for i in range(300)]
    images = encoded(300, 8)
    order = np.random.default_rng(0).permutation(300)
    assert all(rows[int(i)].data == images[i] for i in order)
    assert len(rows.groups) == parquet.GROUPS
    assert [item.name for item in rows[7:12]] == [f"row {i}" for i in range(7, 12)]
    with pytest.raises(IndexError):
        rows[300]


def test_row_groups_too_large_for_memory(tmp_path, monkeypatch):
    """As many are held as fit, two at least; where they do not, it is said before any is read."""
    path = tmp_path / "a.parquet"
    write(path, 300, 8, 10)
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "available_memory", lambda: 0)
        rows = parquet.columns(path, "a")[0]
        assert all(rows[i].data for i in range(300))
        assert len(rows.groups) == 2
    monkeypatch.setattr(room, "available_memory", lambda: 100)
    refused(lambda: open_data(path), path, "its row groups need", "row_group_size=1000")


def test_want_of_memory_is_not_called_damage(tmp_path):
    class Full:
        def read_row_group(self, *which):
            raise MemoryError

    write(tmp_path / "a.parquet", 30, 8)
    rows = parquet.columns(tmp_path / "a.parquet", "a")[0]
    rows.file = Full()
    with pytest.raises(MemoryError):
        rows[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process the Linux way")
def test_available_memory_is_plausible_and_heeds_a_limit():
    assert 2**26 < room.available_memory() < 2**50
    code = (
        "from resource import *; from latentforge.data.room import available_memory;"
        "setrlimit(RLIMIT_DATA, (2**31, getrlimit(RLIMIT_DATA)[1])); print(available_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**29 < int(done.stdout) < 2**31


def test_windows_says_what_is_free(monkeypatch):
    class Kernel:
        def GlobalMemoryStatusEx(self, status):
            length, status._obj[2] = status._obj[0], 5 * 2**30
            return length == 64

    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=Kernel()), raising=False)
    monkeypatch.setattr(Path, "read_text", missing)  # there is no /proc
    monkeypatch.delattr(os, "sysconf")
    assert room.available_memory() == 5 * 2**30


LARGE = """
import json, sys
from pathlib import Path
from resource import RLIMIT_DATA, getrlimit, setrlimit
import numpy as np, torch
import latentforge as lf
torch.set_num_threads(1)
small = {"model_options": {"net": "conv", "width": 2, "latent_dim": 2}, "batch_size": 16, "quiet": True}
import latentforge.data.parquet, pyarrow.parquet
lf.fit("vae", torch.rand(2000, 1, 64, 64), examples=160, **small)  # imports all there is
status = Path("/proc/self/status").read_text().splitlines()
used = 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmData"))
setrlimit(RLIMIT_DATA, (used + 250 * 2**20, getrlimit(RLIMIT_DATA)[1]))
try:
    np.ones(80_000 * 64 * 64, np.uint8)
    raise SystemExit("the limit does not hold")
except MemoryError:
    pass
data = lf.open_data(sys.argv[1])
lf.fit("vae", data, examples=1600, **small)
x = data.train[torch.arange(0, len(data.train), 997)]
some = data.train[torch.arange(753)].image
print(json.dumps({"notes": data.notes, "n": [len(data.train), len(data.validation), len(data.test)],
                  "flat": bool((x.image == x.image[:, :, :1, :1]).all()), "mean": float(some.mean())}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process the Linux way")
def test_training_on_more_than_a_process_may_hold(tmp_path):
    """80,000 images of 64 x 64 are 328 MB: more than a process may take that is left 250 MB."""
    write(tmp_path / "large.parquet", 80_000, 64, 1000)
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "large.parquet")], capture_output=True, text=True,
        env={"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["n"] == [64_000, 8000, 8000]
    assert seen["flat"]
    assert abs(seen["mean"] - np.mean(np.arange(GREYS)) / 255) < 0.05
    assert any("more than fits in memory" in note for note in seen["notes"])


def test_batches_go_where_they_are_asked_for():
    data = open_data("mnist-5k").train
    assert data.to("cpu")[torch.arange(3)].image.device.type == "cpu"
    meta = data.to("meta")
    assert meta.device.type == "meta"


def test_images_that_would_fill_a_gpu_stay_where_they_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1500, 3000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)  # by torch, of which 500 are free
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 3000)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 1000)
    images = Images(torch.zeros(1001, 1, 1, 1, dtype=torch.uint8))
    for kind in ("cuda", "mps"):
        kept = images.to(kind)
        assert (kept.pixels.device.type, kept.device.type) == ("cpu", kind)
        assert free_on(torch.device(kind)) == 2000


def test_what_a_control_group_holds_is_not_free(tmp_path, monkeypatch):
    """Its files in memory are: the system forgets them when asked for room."""
    monkeypatch.setattr(room, "GROUP", tmp_path)
    free = room.available_memory()
    for name, text in (
        ("memory.max", "1000000"),
        ("memory.current", "700000"),
        ("memory.stat", "anon 1\ninactive_file 200000\nactive_file 50000\n"),
    ):
        (tmp_path / name).write_text(text)
    assert room.available_memory() == 550_000
    (tmp_path / "memory.max").write_text("max")
    assert room.available_memory() > min(free, 2**30) // 2
