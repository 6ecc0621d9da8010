"""The run directory: config, statistics, checkpoints, previews and the finished model. All but `stats.jsonl`, which is
appended to, and the first `config.yaml`, with which a process takes the directory, is written under a temporary name and
renamed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors
import yaml
from filelock import FileLock, Timeout
from safetensors.torch import save_file
from torch import Tensor

from latentforge._version import __version__
from latentforge.errors import InputError, unreadable
from latentforge.files import atomic, contents, place, quoted, write_text

FORMAT = 1  # of the run directory; a higher number is a newer Latentforge's
# what a killed process leaves, the last of them through safetensors
UNFINISHED = ".*.part", ".*.old", "*/.*.part", "checkpoints/.tmp*"
FOLDERS = "checkpoints", "previews"
# what else lies in them is somebody's own
CHECKPOINT = re.compile(r"round-([0-9]{9,})\.safetensors")
PREVIEW = re.compile(r"(?:samples|reconstructions|restorations)-([0-9]{8,})\.png")


class Run:
    """One run on disk. `Run.create` makes it, `Run.open` finds it again."""

    def __init__(self, path: Path, config: dict[str, Any]):
        self.path, self.config = path, config

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any]) -> Run:
        """A new run directory holding `config.yaml`. InputError where one exists or nothing can be written."""
        path = place(path)
        cls.need_free(path)
        run = cls(path, {"latentforge": __version__, "format": FORMAT, **config})
        text = yaml.safe_dump(run.config, sort_keys=False)
        new, ours = [p for p in (path, *path.parents) if not p.exists()], False
        try:
            path.mkdir(parents=True, exist_ok=True)
            # first: what has it is a run; and never over another's, which may have begun just now
            with open(path / "config.yaml", "x", encoding="utf-8", errors="backslashreplace") as f:
                ours = True
                f.write(text)
            run.make_folders()
        except FileExistsError:
            raise taken(path) from None
        except OSError as error:
            if ours:
                (path / "config.yaml").unlink(missing_ok=True)
            for folder in [*(path / name for name in FOLDERS if ours), *new]:
                with suppress(OSError):  # another process uses it by now
                    folder.rmdir()
            raise InputError(f"{path} cannot be written ({error.strerror}); choose another place with --out.") from None
        return run

    @staticmethod
    def need_free(path: str | Path) -> None:
        """InputError where there is something at `path` already."""
        path = place(path)
        try:
            free = not path.exists() or (path.is_dir() and all(p.suffix == ".part" for p in contents(path)))
        except OSError as error:  # a name that is too long, a directory that is somebody else's
            raise InputError(f"{path} cannot be written ({error.strerror}); choose another place with --out.") from None
        if not free:
            raise taken(path)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run. InputError where there is none or a newer version wrote it."""
        path = place(path)
        file = path / "config.yaml"
        if not file.is_file():
            kind = "is a file" if path.exists() else "does not exist"
            what = "has no config.yaml, so it is not a run" if path.is_dir() else kind
            raise InputError(
                f"{path} {what}; give a run's directory, the one that holds config.yaml, as in runs/vae-gan."
            )
        try:
            config = yaml.safe_load(file.read_text(encoding="utf-8"))
            version = int(config["format"])
            if not all(isinstance(config[k], dict) for k in ("model", "data", "train")):
                raise TypeError
            config["model"]["name"], config["data"]["source"]
        except OSError as error:
            raise unreadable(file, error) from None
        except (yaml.YAMLError, KeyError, TypeError, ValueError):
            raise InputError(f"{file} is damaged; restore it, or load the model from {path / 'model'}.") from None
        if version > FORMAT:
            raise InputError(
                f"{path} was written by Latentforge {config.get('latentforge')}, newer than this {__version__}; "
                "upgrade with 'pip install -U latentforge'."
            )
        return cls(path, config)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside the block no other process trains this run. InputError where one does."""
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(f"{self.path} is in training in another process; wait for that, or stop it.") from None
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written ({error.strerror or error}); make room there, or copy the run to a place of "
                "your own."
            ) from None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes it with the lock
                os.unlink(lock.lock_file)
            lock.release()

    def goes_on_by(self, longer: bool = False) -> str:
        """What trains on, to a larger total where it is to be `longer`: a command; Python, where the images were arrays in
        memory, which no command has."""
        if (self.config.get("data") or {}).get("source") == "memory":
            return f"lf.resume({str(self.path)!r}, data=YOUR_ARRAYS{', epochs=NEW_TOTAL' if longer else ''})"
        return f"latentforge resume {quoted(self.path)}{' --epochs NEW_TOTAL' if longer else ''}"

    def make_folders(self) -> None:
        for name in FOLDERS:
            (self.path / name).mkdir(exist_ok=True)

    def reopen(self, budget: dict[str, Any]) -> None:
        """Give the run a new budget: it is unfinished again, and its model goes until the new one is written. In this
        order, a crash in between leaves a run that `resume` can finish."""
        self.config["train"] |= budget
        text = yaml.safe_dump(self.config, sort_keys=False)  # before anything goes
        self.metrics()  # and what cannot be read ends it here
        if (self.path / "model").is_dir():
            old = self.path / f".model.{os.getpid()}.old"
            (self.path / "model").rename(old)
            remove(old)
        with self.adding_metrics():
            if measured := self.metrics():  # all but the costs of training is of the model that went
                rest = {k: v for k, v in measured.items() if k == "training"}
                write_text(self.path / "metrics.json", json.dumps(rest, indent=2) + "\n")
        write_text(self.path / "config.yaml", text)

    def set_aside(self, changes: dict[str, Any]) -> None:
        """Before another attempt: move what this one wrote to attempts/N and change its settings."""
        n = 1 + sum(1 for _ in (self.path / "attempts").glob("*")) if (self.path / "attempts").is_dir() else 1
        folder = self.path / "attempts" / str(n)
        folder.mkdir(parents=True)
        shutil.copy(self.path / "config.yaml", folder)
        for name in ("checkpoints", "previews", "stats.jsonl"):  # checkpoints first: without them nothing is taken up
            if (self.path / name).exists():
                (self.path / name).rename(folder / name)
        self.config["train"] |= changes
        write_text(self.path / "config.yaml", yaml.safe_dump(self.config, sort_keys=False))
        self.make_folders()

    # -- statistics ----------------------------------------------------------------------------------------------
    def append(self, row: dict[str, Any]) -> None:
        """One line of `stats.jsonl`, or none where the disk is full."""
        with open(self.path / "stats.jsonl", "ab", buffering=0) as f:
            start = f.tell()
            try:
                line = (json.dumps(row) + "\n").encode()
                if f.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                f.truncate(start)
                raise

    def stats(self) -> list[dict[str, Any]]:
        """The lines of `stats.jsonl`; one cut short by a crash is left out."""
        file = self.path / "stats.jsonl"
        rows = []
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict) and "round" in row:
                rows.append(row)
        return rows

    def metrics(self) -> dict[str, Any]:
        """`metrics.json`; empty where there is none or it is damaged. OSError where it cannot be read."""
        try:
            found = json.loads((self.path / "metrics.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @contextmanager
    def adding_metrics(self) -> Iterator[None]:
        """Inside the block no other process writes `metrics.json`. OSError where one does not end."""
        with FileLock(self.path / ".metrics.lock", timeout=60) as lock:
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes it with the lock
                    os.unlink(lock.lock_file)

    @property
    def model_stamp(self) -> int | None:
        """Which of the models that a run may have had one after the other is there now; None of an unfinished run."""
        with suppress(OSError):
            return (self.path / "model" / "config.json").stat().st_mtime_ns
        return None

    def keep_measures(
        self, split: str, rows: list[dict[str, Any]], stamp: int | None, how: dict[str, Any] | None = None
    ) -> bool:  # fmt: skip
        """Add rows of `evaluate` on a split to `metrics.json`, unless the run's `model_stamp` is another than the one they were
        taken under. `how` the rows were measured is kept beside them; `compare` reuses only rows measured its own way. Returns
        whether they were kept."""
        named = {r["measure"]: {k: v for k, v in r.items() if k != "measure"} for r in rows}
        with self.adding_metrics():  # another process may be adding its own
            if stamp is None or self.model_stamp != stamp:
                return False
            kept = self.metrics()
            kept[split] = kept.get(split, {}) | named
            taken = {k: v for k, v in (kept.get("evaluated") or {}).items() if k != split}
            kept["evaluated"] = taken if how is None else taken | {split: how | {"measures": list(named)}}
            write_text(self.path / "metrics.json", json.dumps(kept, indent=2) + "\n")
        return True

    def tidy(self, round_: int) -> int:
        """Before a run goes on from `round_`: drop the statistics and pictures of the rounds it will play again, and what a
        killed process was writing. Returns the last round with validation measures, -1 where there is none."""
        self.make_folders()
        kept = [r for r in self.stats() if r["round"] <= round_]
        write_text(self.path / "stats.jsonl", "".join(json.dumps(r) + "\n" for r in kept))
        for rest in (p for pattern in UNFINISHED for p in self.path.glob(pattern)):
            remove(rest)
        for picture in [*(self.path / "previews").iterdir()]:
            if (name := PREVIEW.fullmatch(picture.name)) and int(name[1]) > round_:
                picture.unlink()
        return max((r["round"] for r in kept if any(k.startswith("validation/") for k in r)), default=-1)

    # -- checkpoints ---------------------------------------------------------------------------------------------
    def checkpoints(self) -> list[Path]:
        """Oldest first."""
        folder = self.path / "checkpoints"
        found = [f for f in folder.iterdir() if CHECKPOINT.fullmatch(f.name)] if folder.is_dir() else []
        return sorted(found, key=lambda f: int(f.stem.partition("-")[2]))

    def save_checkpoint(self, tensors: dict[str, Tensor], state: dict[str, Any], keep: int = 2) -> None:
        """Write a checkpoint, point `latest` at it, and drop all but the `keep` newest. OSError where the disk is
        full: then the older ones are untouched."""
        folder = self.path / "checkpoints"
        name = f"round-{state['round']:09d}.safetensors"
        with atomic(folder / name) as part:
            try:
                save_file(tensors, part, metadata={"state": json.dumps(state)})
            except safetensors.SafetensorError as error:  # how it reports a full disk
                raise OSError(str(error)) from None
        write_text(folder / "latest", name)
        for old in self.checkpoints()[:-keep]:
            if old.name != name:
                os.unlink(old)

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any], list[str]] | None:
        """(tensors, state, damaged) of the newest checkpoint that is whole, None where there is none. `damaged`
        names newer ones that are not. InputError where one cannot be read, which may well be whole."""
        damaged: list[str] = []
        for file in reversed(self.checkpoints()):
            try:
                open(file, "rb").close()  # safetensors says of all that it cannot open that it is not there
                with safetensors.safe_open(file, "pt") as f:
                    state = json.loads(f.metadata()["state"])
                    # copies: a file that tensors are mapped from cannot be removed everywhere
                    return {k: f.get_tensor(k).clone() for k in f.keys()}, state, damaged  # noqa: SIM118
            except (safetensors.SafetensorError, FileNotFoundError, KeyError, TypeError, ValueError):
                damaged.append(file.name)
            except OSError as error:
                raise unreadable(file, error) from None
        if damaged:
            raise InputError(f"{self.path}: every checkpoint is damaged ({', '.join(damaged)}); train anew.")
        return None

    @property
    def finished(self) -> bool:
        return (self.path / "model" / "config.json").is_file()


def taken(path: Path) -> InputError:
    go_on = f"continue it with 'latentforge resume {quoted(path)}' or " if (path / "config.yaml").is_file() else ""
    return InputError(f"{path} already exists; {go_on}choose another --out.")


def remove(path: Path) -> None:
    """A file, a directory and what is in it, or a link but not what it leads to."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
