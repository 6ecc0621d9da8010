"""Which files of a folder are images, and what their classes and splits are. The images themselves: `decode`."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentforge.data.decode import SUFFIXES, Found, Item, Part, Size, natural, read_images, reason, shown, some
from latentforge.data.room import take
from latentforge.errors import InputError

UNLABELLED = ("unlabelled", "unlabeled")  # a sub-folder of images whose class is not known, beside those of classes
SPLITS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "eval": "validation", "test": "test", "testing": "test",
}  # fmt: skip


@dataclass
class Tree:
    """One folder: its own images, and its sub-folders that hold images at any depth."""

    path: Path
    images: list[Path]
    folders: list[Tree]
    empty: list[Path]  # sub-folders without any image
    runs: list[Path]  # sub-folders that are runs of ours, whose pictures are no data, in the whole tree
    ignored: Counter[str]  # suffixes of files that are not images, in the whole tree

    def count(self) -> int:
        return len(self.images) + sum(f.count() for f in self.folders)

    def everything(self) -> list[Path]:
        return self.images + [p for f in self.folders for p in f.everything()]


def scan(path: Path, above: tuple[Path, ...] = ()) -> Tree:
    """Walk `path`, following links but never round a loop. Hidden names are passed over."""
    if len(above) > 30:
        raise InputError(f"{shown(path)}: folders are nested more than 30 deep; give one further down")
    real = path.resolve()
    tree = Tree(path, [], [], [], [], Counter())
    try:
        entries = sorted(os.scandir(path), key=lambda e: (natural(e.name), e.name))
    except OSError as error:
        raise InputError(f"cannot read the folder {shown(path)}: {error.strerror or reason(error)}") from None
    for entry in entries:
        here = path / entry.name
        if entry.name.startswith((".", "__MACOSX")):
            continue
        # of a plain file the disk is not asked again; False of a link that leads round in a circle or where nobody may go
        if not entry.is_file(follow_symlinks=False) and os.path.isdir(here):
            if here.resolve() in (real, *above):
                continue
            if (here / "config.yaml").is_file() and any((here / n).is_dir() for n in ("checkpoints", "previews")):
                tree.runs.append(here)
                continue
            below = scan(here, (real, *above))
            tree.ignored += below.ignored
            tree.runs += below.runs
            if below.count():
                tree.folders.append(below)
            elif not below.runs:
                tree.empty.append(here)
        elif here.suffix.lower() in SUFFIXES:
            tree.images.append(here)
        else:
            tree.ignored[here.suffix.lower() or "no suffix"] += 1
    return tree


def read_folder(
    path: Path, image_size: Size | None = None, channels: int | None = None, skip_bad: bool = False
) -> Found:
    """Images below `path`, with sub-folders as classes or as splits (those of `SPLITS`).

    Raises InputError for a folder without images, for images both beside and inside sub-folders, for classes that
    only a later split has, and for all that `read_images` refuses.
    """
    tree, notes = _descend(scan(path))
    _refuse_empty(tree, path)
    parts, classes = _parts(tree, notes)
    if tree.runs:
        places = some([shown(p.relative_to(path)) for p in tree.runs])
        notes.append(f"runs of Latentforge in it are no data and were passed over: {places}")
    if ignored := tree.ignored.total():
        kinds = some([shown(suffix) for suffix, _ in tree.ignored.most_common()], 4)
        noun = "1 file that is not an image was" if ignored == 1 else f"{ignored:,} files that are not images were"
        notes.append(f"{noun} ignored ({kinds})")

    rows = [(name, file, label) for name, files in parts.items() for file, label in files]
    items = [Item(shown(file.relative_to(path)), file) for _, file, _ in rows]
    pixels, kept, more = read_images(items, path, image_size, channels, skip_bad)
    of_part = np.array([name for name, _, _ in rows])[kept]
    labels = np.array([label for _, _, label in rows], np.int64)[kept] if classes else None
    found = {"train": Part(pixels, labels)}
    if len(parts) > 1:
        for name in parts:
            mine = of_part == name
            if not mine.any():
                raise InputError(f"{shown(path)}: no usable image is left for {name}; repair some or remove its folder")
            found[name] = Part(take(pixels, mine), None if labels is None else labels[mine])
    notes += more
    return Found(
        shown(path.resolve()), found["train"], found.get("validation"), found.get("test"), classes=classes, notes=notes,
        names=[items[i].name for i in kept],
    )  # fmt: skip


def _descend(tree: Tree) -> tuple[Tree, list[str]]:
    """Go down while everything sits in one single sub-folder."""
    notes = []
    while not tree.images and len(tree.folders) == 1:
        below = tree.folders[0]
        below.ignored, below.runs, top = tree.ignored, tree.runs, tree.path
        tree = below
        notes = [f"all images are in {shown(tree.path)}; a single sub-folder of {shown(top)} is not taken as a class"]
    return tree, notes


def _refuse_empty(tree: Tree, path: Path) -> None:
    if tree.count():
        return
    others = sorted(p.name for p in path.iterdir() if p.suffix.lower() in (".npz", ".npy", ".parquet", ".gz"))
    if any(name.endswith("ubyte.gz") for name in others):
        raise InputError(
            f"{shown(path)} holds idx files, not images; if they are {shown(path.resolve().name)}, "
            f"use --data {shown(path.resolve().name)} --data-dir {shown(path.resolve().parent)}"
        )
    hint = f"; give one of its files instead: {some([shown(path / n) for n in others])}" if others else ""
    kinds = some([shown(suffix) for suffix, _ in tree.ignored.most_common()], 4)
    holds = f"it holds only {tree.ignored.total():,} other files ({kinds})" if tree.ignored else "it is empty"
    wanted = hint or "; give a folder of .png, .jpg, .webp, .tif or .bmp files"
    raise InputError(f"no images in the folder {shown(path)}: {holds}{wanted}")


Rows = list[tuple[Path, int]]


def _parts(tree: Tree, notes: list[str]) -> tuple[dict[str, Rows], list[str] | None]:
    """The files and labels of each split, and the class names (None without classes)."""
    _refuse_mixture(tree)
    folders = [f for f in tree.folders if f.path.name.lower() in SPLITS]
    kinds = [SPLITS[f.path.name.lower()] for f in folders]
    if "train" not in kinds or len(set(kinds)) < 2:  # 'train' alone may well be a class
        files, own = _classed(tree, notes)
        return {"train": files}, own
    named = some([shown(f.path.name) for f in folders], 9)
    if others := [shown(f.path.name) for f in tree.folders if f not in folders]:
        raise InputError(
            f"{shown(tree.path)} has the splits {named} beside other folders of images ({some(others)}); "
            "move those elsewhere"
        )
    if len(set(kinds)) < len(kinds):
        raise InputError(f"{shown(tree.path)} has two folders for one split ({named}); keep one of each")

    trees = {kind: folders[kinds.index(kind)] for kind in ("train", "validation", "test") if kind in kinds}
    if len(trees["train"].folders) == 1 and not trees["train"].images:  # then it is no class in the others either
        for name in trees:
            trees[name], more = _descend(trees[name])
            notes += more
    parts: dict[str, Rows] = {}
    classes: list[str] | None = None
    number: dict[str, int] = {}
    for name, t in trees.items():
        _refuse_mixture(t)
        files, own = _classed(t, notes)
        if name == "train":
            classes = own
            number = {c: i for i, c in reversed([*enumerate(own or [])])}  # the first of those that are shown alike
        elif (own is None) != (classes is None):
            raise InputError(
                f"{shown(trees['train'].path)} and {shown(t.path)} disagree: one has a sub-folder for each class and "
                "the other has none; arrange both alike"
            )
        if own and classes:
            if strange := [c for c in own if c not in number]:
                raise InputError(
                    f"{shown(t.path)} has classes that train lacks: {some(strange)}; rename or remove these sub-folders"
                )
            files = [(file, number[own[label]] if label >= 0 else -1) for file, label in files]
        parts[name] = files
    return parts, classes


def _refuse_mixture(tree: Tree) -> None:
    if tree.images and tree.folders:
        raise InputError(
            f"{shown(tree.path)} has {len(tree.images):,} images of its own and {len(tree.folders):,} sub-folders with "
            "images: put every image into a sub-folder (one per class), or all of them into one folder"
        )


def _classed(tree: Tree, notes: list[str]) -> tuple[Rows, list[str] | None]:
    if not tree.folders:
        return [(file, 0) for file in tree.images], None
    if tree.empty:
        notes.append(f"sub-folders without images were ignored: {some([shown(p) for p in tree.empty])}")
    classes = [f for f in tree.folders if f.path.name.lower() not in UNLABELLED]
    if several := [shown(f.path) for f in classes if len(f.folders) > 1]:
        notes.append(f"folders that hold several sub-folders of images were read as one class each: {some(several)}")
    rows = [(file, label) for label, folder in enumerate(classes) for file in folder.everything()]
    if classes and len(classes) < len(tree.folders):
        unlabelled = [f for f in tree.folders if f.path.name.lower() in UNLABELLED]
        unknown = [(file, -1) for f in unlabelled for file in f.everything()]
        notes.append(f"{len(unknown):,} images in a sub-folder named {UNLABELLED[0]} have no label (-1)")
        rows += unknown
    elif not classes:
        return [(file, 0) for f in tree.folders for file in f.everything()], None
    return rows, [shown(f.path.name) for f in classes]
