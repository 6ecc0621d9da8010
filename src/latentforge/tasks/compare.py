"""Several models on the same data with the same budget: trained one after the other, evaluated alike, put side by side.

A folder holds it all: runs/NAME-SEED, comparison.json and comparison.html. What is finished there is taken as it is, what
was cut short goes on, so that a comparison grows from day to day."""

from __future__ import annotations

import json
import numbers
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from latentforge import registry
from latentforge._version import __version__
from latentforge.api import data_of
from latentforge.data.dataset import Dataset
from latentforge.data.decode import silence
from latentforge.errors import InputError, Interrupted, RunError
from latentforge.files import place, quoted, write_text
from latentforge.report.words import origin
from latentforge.run import Run
from latentforge.saving import load
from latentforge.tasks.evaluate import QUICK, chosen, evaluate
from latentforge.tasks.output import writing

BUDGETS = {"--minutes", "--examples", "--epochs"}
NOT_FOR_RUNS = {"--data", "--data-dir", "--image-size", "--channels", "--skip-bad"} | BUDGETS
SHARED = {"--seed", "--out"} | BUDGETS  # flags of `train` that no model has for itself
MINUTES = 5.0  # where no budget is given

Rows = dict[str, dict[str, Any]]  # measure -> row


@dataclass
class Entry:
    """One column of a comparison: a model with its flags, trained once per seed."""

    name: str
    command: str  # how its first run was or can be made
    runs: list[Run]
    rows: list[Rows] = field(default_factory=list)  # per run

    @property
    def given(self) -> bool:
        """Whether it is a run from elsewhere."""
        return self.command.startswith("run ")

    @property
    def begun(self) -> bool:
        """Whether there are runs of it in the folder."""
        return any(r.path.exists() for r in self.runs)

    @property
    def run(self) -> Run:
        """The one that pictures are taken of."""
        return self.runs[0]


def compare(
    what: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    data: Any = None,
    train: Mapping[str, Any] | Sequence[str] = (),
    seeds: int = 1,
    split: str = "test",
    metrics: str | Sequence[str] = QUICK,
    features: str | Sequence[str] = ("auto",),
    repeats: int = 16,
    quiet: bool = False,
) -> list[Entry]:
    """Train and evaluate each of `what`: a model's name, with flags of `train` behind it where it needs some ("vae
    --sampler gmm"), or the directory of a run. Writes OUT/comparison.json and OUT/comparison.html, and returns a column
    for each of `what`, whose `rows` are the measures of each of its runs.

    data: the images again, of runs on arrays in memory. train: settings of all that is trained, such as {"data": "mnist",
    "minutes": 5}, or flags as on the command line (default: 5 minutes). seeds: runs of each model, seeds 0, 1 ...
    split, metrics, features, repeats: as in `evaluate`. quiet: no progress.
    InputError for bad input, such as runs that are not finished or are of different images; RunError where a training
    fails; Interrupted where it is stopped.
    """
    named = [str(w) for w in ([what] if isinstance(what, str | Path) else what)]
    flags = flags_of(train)
    told = {flag.split("=")[0] for flag in flags}
    if not named:
        raise InputError("nothing to compare; name models or runs, as in 'latentforge compare vae gan vae-gan'.")
    metrics, features = ((x,) if isinstance(x, str) else tuple(x) for x in (metrics, features))
    chosen(metrics, features)
    out = place(out)
    budget = [] if BUDGETS & told else ["--minutes", f"{MINUTES:g}"]
    entries = [entry(words, out, (*flags, *budget), seeds) for words in named]
    if all(e.given for e in entries) and (told & NOT_FOR_RUNS or seeds > 1):
        raise InputError("these runs are trained already; leave out --data, --seeds and what else is for training.")
    if data is not None and not all(e.given for e in entries):
        raise InputError(
            "data is the images of runs that are trained already; train the others with lf.fit(..., out=...) and name their "
            "runs, or give a name or path as train={'data': ...}."
        )
    tell_apart(entries)
    commands = out / "commands.json"
    agree(commands, entries)
    need_one_set(entries)
    before = commands.read_text(encoding="utf-8") if commands.is_file() else None
    try:
        for e in entries:
            if not e.given:
                note(commands, e.name, e.command)
            e.runs = [trained(run, e.command, seed, quiet) for seed, run in enumerate(e.runs)]
    finally:
        if not any(e.begun for e in entries if not e.given):  # nothing came of it
            if before is not None:  # of an older comparison
                write_text(commands, before)
            else:
                commands.unlink(missing_ok=True)
                with suppress(OSError):
                    out.rmdir()
    with silence(quiet):
        dataset = images_of(entries, data)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)  # before measuring, which may take long
    try:
        for e in entries:
            for run in e.runs:
                e.rows.append(measured(run, dataset, split, metrics, features, repeats))
    except BaseException:
        with suppress(OSError):  # where there is something in it
            out.rmdir()
        raise
    write_text(out / "comparison.json", json.dumps(summary(entries, split), indent=2) + "\n")
    from latentforge.report.comparison import write_comparison

    write_comparison(entries, dataset, out, split, features)
    return entries


def flags_of(train: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Settings as flags of the command line: numbers of a list behind commas, and nothing where there is none."""
    if isinstance(train, str):
        return shlex.split(train)
    if not isinstance(train, Mapping):
        return [str(word) for word in train]
    out = []
    for name, value in train.items():
        parts = value if isinstance(value, tuple | list) else (value,)
        strange = [part for part in parts if not isinstance(part, str | os.PathLike | numbers.Real | None)]
        if strange:
            raise InputError(
                f"train={{{name!r}: ...}} takes what a flag takes, and no {type(strange[0]).__name__}; train on images in "
                "memory with lf.fit(..., out=...) and name the runs."
            )
        if value is not None and value is not False:
            out.append(f"--{name.replace('_', '-')}" + ("" if value is True else f"={','.join(map(str, parts))}"))
    return out


def entry(words: str, out: Path, train: tuple[str, ...], seeds: int) -> Entry:
    """What is named by `words`, with the runs it has or will have."""
    if (place(words) / "config.yaml").is_file():
        run = Run.open(words)
        if not run.finished:
            raise InputError(f"{words} is not finished; run 'latentforge resume {quoted(words)}' first.")
        return Entry(run.path.resolve().name, f"run {words}", [run])
    try:
        name, *flags = shlex.split(words)
    except ValueError as error:
        raise InputError(f"'{words}': {error}.") from None
    if name not in registry.MODELS and ("/" in name or place(name).exists()):
        raise InputError(
            f"{name} is neither a run nor a model; give a run's directory, the one that holds config.yaml, as in runs/vae-gan."
        )
    registry.entry(name)  # InputError with a suggestion
    if name not in registry.OURS:
        raise InputError(f"{name} is a class of your own; train it with lf.fit(..., out=...) and name its run.")
    shared = {word.split("=")[0] for word in train}
    for flag in (word.split("=")[0] for word in flags):
        if flag in SHARED or (flag.startswith("--") and flag in shared):
            how = "--seeds" if flag == "--seed" else flag
            raise InputError(f"'{words}': what is compared has {flag} in common; give {how} to compare itself.")
    label = re.sub(r"[^\w.]+", "-", " ".join([name, *flags])).strip("-")
    command = shlex.join(["latentforge", "train", name, *flags, *train])
    return Entry(label, command, [Run(out / "runs" / f"{label}-{seed}", {}) for seed in range(seeds)])


def tell_apart(entries: list[Entry]) -> None:
    """Name runs by their paths where they would have the name of another entry; InputError for one that is named twice."""
    names = [e.name for e in entries]
    for e in entries:
        if e.given and names.count(e.name) > 1:
            e.name = e.command.removeprefix("run ").rstrip("/")
    names = [e.name for e in entries]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise InputError(f"'{twice}' is named twice; name it once, and take --seeds for more runs of a model.")


def agree(file: Path, entries: list[Entry]) -> None:
    """InputError where a run of this folder was made otherwise."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for e in entries:
        if not e.given and e.begun and (was := known.get(e.name, e.command)) != e.command:
            raise InputError(f"{file.parent} holds '{was}', not '{e.command}'; choose another --out.")


def note(file: Path, name: str, command: str) -> None:
    """Write down how the runs of an entry are made."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(known | {name: command}, indent=2) + "\n")


def need_one_set(entries: list[Entry]) -> None:
    """InputError where the entries are not of the same images, or one cannot be trained as it is asked for: before any is."""
    prints = {}
    for e in entries:
        config = e.run.config
        if not config and (e.run.path / "config.yaml").is_file():
            config = Run.open(e.run.path).config
        if not config and len(entries) > 1:  # a single one says at once what is wrong with it
            config = yaml.safe_load(call([*shlex.split(e.command)[1:], "--dry-run"], quiet=True))
        if config:
            prints[e.name] = (config.get("images") or {}).get("fingerprint")
    if len(set(prints.values())) > 1:
        raise InputError(
            f"the runs were trained on different images: {', '.join(prints)}; compare runs of one data set."
        )


def images_of(entries: list[Entry], data: Any = None) -> Dataset:
    """The images that all entries share, of the first that still has them, or `data`; InputError where none has."""
    lost: list[InputError] = []
    for e in entries:
        try:
            return data_of(e.run, data)
        except InputError as error:  # they were in memory, or have been moved
            lost.append(error)
    raise lost[0]


def trained(run: Run, command: str, seed: int, quiet: bool) -> Run:
    """The run, finished: taken as it is, gone on with or trained anew, each in a process of its own."""
    if run.config:
        return run
    words = shlex.split(command)[1:]
    if (run.path / "config.yaml").is_file():
        if (found := Run.open(run.path)).finished:
            return found
        call(["resume", str(run.path)], quiet)
    else:
        call([*words, "--seed", str(seed), "--out", str(run.path)], quiet)
    return Run.open(run.path)


def call(words: list[str], quiet: bool) -> str:
    """Run a command of ours; returns what it printed. Ctrl-C goes to it too, and SIGTERM is passed on: it is waited for, as it
    may have a round to end and a checkpoint to write; a second Ctrl-C kills it."""
    if not quiet:
        print("latentforge " + shlex.join(words), file=sys.stderr, flush=True)
    with heard(quiet) as (pipe, lines):
        process = subprocess.Popen(
            [sys.executable, "-m", "latentforge", *words, *(["--quiet"] if quiet else [])], stdout=subprocess.PIPE,
            stderr=pipe, text=True,
        )  # fmt: skip
        try:
            with passed_on(signal.SIGTERM, process):
                out, _ = process.communicate()
        except KeyboardInterrupt:
            try:
                process.wait()
            finally:
                process.kill()
            raise
    errors = "".join(lines)
    if process.returncode == 130:
        raise Interrupted("stopped; run it again with the same --out to go on")
    if process.returncode == 2:
        raise InputError(f"'latentforge {shlex.join(words)}' was refused{last_line(errors)}")
    if process.returncode:
        raise RunError(
            f"'latentforge {shlex.join(words)}' ended with exit code {process.returncode}{last_line(errors)}"
        )
    return out


@contextmanager
def heard(quiet: bool) -> Iterator[tuple[int | None, list[str]]]:
    """(file, lines) of what a process says beside its output: a pipe for it to write to, and its lines by the end of the block,
    which are printed here unless `quiet`: in a notebook on Windows its own file of errors is not what a cell shows. (None, [])
    where it is the same file as ours."""
    try:
        shared = not quiet and sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):
        shared = False
    if shared:
        yield None, []
        return
    lines: list[str] = []
    here, there = os.pipe()

    def listen() -> None:
        with open(here, errors="replace") as pipe:
            for line in pipe:
                lines.append(line)
                if not quiet:
                    with suppress(OSError, ValueError):  # or the pipe would fill up
                        print(line, end="", file=sys.stderr, flush=True)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield there, lines
    finally:
        os.close(there)
        listener.join()


@contextmanager
def passed_on(number: int, process: subprocess.Popen) -> Iterator[None]:
    """Inside the block a signal to this process goes to that one; only the main thread can see to that, and only where the
    handler of before can be given back."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) is None:
        yield
        return
    before = signal.signal(number, lambda *_: process.send_signal(number))
    try:
        yield
    finally:
        signal.signal(number, before)


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return f": {lines[-1].removeprefix('latentforge: ')}" if lines else "; see above."


def measured(
    run: Run, dataset: Dataset, split: str, metrics: Sequence[str], features: Sequence[str], repeats: int
) -> Rows:  # fmt: skip
    """The numbers of a run, from its metrics.json where they were taken the same way; others that stand there stay."""
    how = {"metrics": list(metrics), "features": list(features), "repeats": repeats, "latentforge": __version__}
    past = (run.metrics().get("evaluated") or {}).get(split) or {}
    if {k: past.get(k) for k in how} != how:
        stamp = run.model_stamp
        rows = evaluate(load(run.path), dataset, split, metrics=metrics, features=features, repeats=repeats)
        try:
            why = "" if run.keep_measures(split, rows, stamp, how) else "the run has changed meanwhile"
        except OSError as error:  # somebody else's run
            why = str(error.strerror or error)
        if why:
            print(f"{run.path / 'metrics.json'} was not written: {why}", file=sys.stderr)
            return {r["measure"]: {k: v for k, v in r.items() if k != "measure"} for r in rows}
    kept = run.metrics()
    return {m: kept[split][m] for m in kept["evaluated"][split]["measures"]}


def summary(entries: list[Entry], split: str) -> dict[str, Any]:
    """What a comparison found, for programs."""
    config = entries[0].run.config
    return {
        "latentforge": __version__, "python": platform.python_version(), "split": split,
        "date": date.today().isoformat(), "seeds": max(len(e.runs) for e in entries),
        "images": (config.get("images") or {}) | {"from": origin(config)},
        "entries": {e.name: {"command": e.command, "machine": e.run.config.get("machine"),
                             "training": [training(r) for r in e.runs], split: e.rows} for e in entries},
    }  # fmt: skip


def training(run: Run) -> dict[str, Any]:
    """What the training of a run took."""
    return run.metrics().get("training", {})


def across(rows: list[Rows], measure: str) -> dict[str, Any] | None:
    """One row for all seeds: the mean value and, for several seeds, their range instead of the interval of one; `of` how many
    seeds, where some have no value."""
    found = [r[measure] for r in rows if measure in r and r[measure]["value"] is not None]
    if not found:
        return None
    values = [r["value"] for r in found]
    row = found[0] | {"value": sum(values) / len(values), "seeds": len(values)}
    if len(values) > 1:
        row |= {"low": min(values), "high": max(values)}
    return row | ({"of": len(rows)} if len(values) < len(rows) else {})


def ends(row: dict[str, Any]) -> tuple[float, float]:
    """Of a row's interval; its value twice where it has none."""
    value = row["value"]
    return (row["low"], row["high"]) if row.get("low") is not None else (value, value)
