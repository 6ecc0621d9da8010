"""Labelled samples from a trained model, written as a data set that says where it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentforge import samplers
from latentforge._version import __version__
from latentforge.clock import mix, seeded
from latentforge.data.dataset import Dataset, open_data
from latentforge.data.decode import natural
from latentforge.data.modes import is_points
from latentforge.errors import InputError
from latentforge.files import atomic, place, write_text
from latentforge.game import Game, generator_of
from latentforge.nets.condition import Label, number_of
from latentforge.report.grid import picture, to_numbers
from latentforge.saving import plain
from latentforge.tasks.encode import need_shape
from latentforge.tasks.output import check_place, write_arrays, writing

CHUNK = 1000  # images drawn at a time
FORMATS = (".npz", ".parquet", "")
# what Windows has in no name, and what it takes for devices
FORBIDDEN = {*'/\\:*?"<>|', *map(chr, range(32))}
DEVICES = {"con", "prn", "aux", "nul", *(f"{device}{i}" for device in ("com", "lpt") for i in range(10))}


class LabelledSampler:
    """Draws images of classes asked for: from what a conditional model was told, or, for other models with an encoder, from a
    Gaussian mixture fitted to the codes of each class of `data`'s training images.

    InputError where the model is neither, or there are no classes, or too few images of any."""

    sampler: Any  # of codes by class; None where the model is told classes
    enough: Tensor  # (K,) bool: classes with training images to draw from; where mixtures are fitted, two of them

    def __init__(self, model: Game, data: Dataset | None = None):
        self.model, self.sampler = model, None
        if model.condition is not None:
            if not model.condition.classes:
                raise InputError(
                    f"{model.name} is conditioned on descriptors; augment draws classes, train it on those."
                )
            self.how, self.classes = "conditional model", model.condition.size
            self.enough = shares_of(model, None) > 0
        elif not model.has_encoder:
            raise InputError(
                f"{model.name} knows no labels and has no encoder to find codes by class; train cvae, cgan or cvae-gan."
            )
        elif data is None or not data.num_classes:
            raise InputError(f"{data.source if data else 'the model'} has no classes to draw samples of; "
                             "give images with classes.")  # fmt: skip
        else:
            self.enough = counts_of(data) > 1
            if not self.enough.any():
                raise InputError(
                    f"{data.source} has no class of two labelled training images to draw from; label more."
                )
            known = data.train.labelled()
            with seeded(0, model.device):  # the codes are drawn, and are to be the same every time
                codes, _ = model.codes_of(known)
            none = codes[:0]
            self.how, self.classes = "gaussian mixture of the codes of each class", data.num_classes
            self.sampler = samplers.fit("gmm", codes, none, known.labels, None, classes=self.classes)

    @torch.no_grad()
    def __call__(self, labels: Tensor, seed: int) -> Tensor:
        """Images (N, C, H, W) in [0, 1], on the CPU, of labels (N,) int64."""
        if self.sampler is None:
            return self.model.sample(len(labels), label=labels, seed=seed).cpu()
        return self.model.decode(self.sampler.draw(len(labels), generator_of(seed, 0xA06), labels)).cpu()

    def drawn(self, labels: Tensor, seed: int) -> Iterator[np.ndarray]:
        """The same in parts of at most `CHUNK`, as (N, H, W, C): uint8, or float32 where images are points."""
        for i, part in enumerate(labels.split(CHUNK)):
            yield to_numbers(self(part, mix(seed, i)))


def need_classes_of(data: Dataset, model: Game, k: int) -> None:
    """InputError where images have other than the k classes that are drawn."""
    if data.num_classes != k:
        raise InputError(f"{data.source} has {data.num_classes} classes and {model.name} was trained with {k}; "
                         "give the images that the model was trained on.")  # fmt: skip


def asked_labels(n: int, classes: int, label: int | None, shares: Tensor | None, seed: int) -> Tensor:
    """(n,) classes: all `label`, as frequent as in `shares` (K,), or as even as can be."""
    if label is not None:
        if not 0 <= label < classes:
            raise InputError(f"there is no class {label}; there are 0 to {classes - 1}.")
        return torch.full((n,), label)
    if shares is None:
        return torch.arange(n) % classes
    return torch.multinomial(shares, n, replacement=True, generator=generator_of(seed, 0x1ABE1))


def names_for(sampler: LabelledSampler, data: Dataset | None) -> list[str]:
    """What the classes that are drawn are called, numbers where they have no names: a model that is told them has its own."""
    names = None if data is None else data.classes
    if sampler.sampler is None:
        names = sampler.model.classes or names
    return names if names and len(names) == sampler.classes else [str(k) for k in range(sampler.classes)]


def left_out(sampler: LabelledSampler, data: Dataset | None) -> list[str]:
    """Names of the classes that have too few training images to be drawn."""
    return [name for name, ok in zip(names_for(sampler, data), sampler.enough.tolist(), strict=True) if not ok]


def drawn_labels(
    sampler: LabelledSampler, data: Dataset | None, n: int, label: int | None, even: bool, seed: int
) -> Tensor:
    """(n,) classes as in `asked_labels`. Those of too few training images are left out of classes as frequent as in training;
    InputError where `label` or `even` asks for one."""
    shares = shares_of(sampler.model, data) * sampler.enough
    labels = asked_labels(n, sampler.classes, label, None if even else shares, seed)
    few = labels[~sampler.enough[labels]]
    if len(few):
        raise InputError(f"class {names_for(sampler, data)[int(few[0])]} has too few labelled training images to draw it from; "
                         "label more, or draw others.")  # fmt: skip
    return labels


def augment(
    model: Game, out: str | Path, n: int, *, data: Any = None, label: int | str | None = None,
    even: bool = False, seed: int = 0, run: str | Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write n labelled samples to `out` and return their manifest.

    out: NAME.npz (`images` uint8 (N, H, W, C), `labels`, `classes`, their names, and `manifest` as JSON), NAME.parquet
    (Hugging Face's image convention, the manifest in the schema's metadata) or a directory (a folder of PNG files per class,
    `manifest.json`).
    All three can be trained on; `read_manifest` reads any.
    data: what the model was trained on, as `open_data` takes it: its classes' names and frequencies, and for a model
    that is told no labels the codes of each. label: draw this class alone: its number, or its name. even: all classes
    alike, instead of as frequent as in training. run: what to name as the source. A class without training images, or,
    where the model is told no labels, of one, is not drawn; the manifest has it in `left_out`.
    InputError where the model cannot draw classes, or has seen too few images of one that is asked for, or `out` cannot be
    written."""
    out = place(out)
    check_place(out, *FORMATS)
    points = is_points(model.image_shape)
    if points:
        check_place(out, ".npz")
    if even and label is not None:
        raise InputError("one class cannot be drawn as even as the others; give label or even.")
    if data is not None:
        data = open_data(data)
        need_shape(model, data.image_shape, data.source)
    sampler = LabelledSampler(model, data)
    k = sampler.classes
    if data is not None and data.num_classes:
        need_classes_of(data, model, k)
    names = names_for(sampler, data)
    wanted = number_of(label, names, "class") if isinstance(label, str) else label
    labels = drawn_labels(sampler, data, n, wanted, even, seed)
    fitted = data if sampler.sampler is not None else None  # whose codes are drawn
    count = torch.bincount(labels, minlength=k).tolist()
    manifest: dict[str, Any] = {
        "what": "synthetic images, drawn by a generative model", "latentforge": __version__,
        "date": date.today().isoformat(), "run": None if run is None else str(run), "model": model.name,
        "arguments": plain(model.args), "trained_on": model.trained_on, "drawn_from": sampler.how, "seed": seed,
        "sampler": None if fitted is not None else "prior" if model.sampler is None else model.sampler.kind,
        "classes_from": None if fitted is None else fitted.source,
        "fingerprint": None if fitted is None else fitted.fingerprint,
        "balance": "even" if even else "as in training" if label is None else "one class",
        "left_out": [] if even or label is not None else left_out(sampler, data),
        "images": n, "shape": list(model.image_shape), "classes": names, "counts": dict(zip(names, count, strict=True)),
    }  # fmt: skip
    with writing(out):
        write = {".npz": write_npz, ".parquet": write_parquet, "": write_folders}[out.suffix.lower()]
        write(out, sampler.drawn(labels, seed), labels, names, manifest)
    return manifest


def shares_of(model: Game, data: Dataset | None) -> Tensor:
    """(K,) how frequent classes were in training."""
    if isinstance(model.condition, Label):
        return model.condition.share.cpu()
    assert data is not None
    counts = counts_of(data)
    return counts.double() / counts.sum()


def counts_of(data: Dataset) -> Tensor:
    """(K,) how many training images are labelled as each class."""
    labels = data.train.labels
    assert labels is not None
    return torch.bincount(labels[labels >= 0].cpu(), minlength=data.num_classes)


# -- files -------------------------------------------------------------------------------------------------------------
Parts = Iterator[np.ndarray]


def write_npz(out: Path, parts: Parts, labels: Tensor, names: list[str], manifest: dict[str, Any]) -> None:
    images = np.concatenate(list(parts))
    manifest["sha256"] = hashlib.sha256(images.tobytes()).hexdigest()
    write_arrays(
        out, images=images, labels=labels.numpy(), classes=np.array(names), manifest=np.array(json.dumps(manifest))
    )


def write_folders(out: Path, parts: Parts, labels: Tensor, names: list[str], manifest: dict[str, Any]) -> None:
    folders, row, digest = folder_names(names), 0, hashlib.sha256()
    with atomic(out) as part:
        for name in folders:
            (part / name).mkdir(parents=True)
        for images in parts:
            digest.update(images.tobytes())
            for image in images:
                picture(image).save(part / folders[int(labels[row])] / f"{row:06d}.png")
                row += 1
        manifest["sha256"] = digest.hexdigest()
        write_text(part / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def portable(name: str) -> bool:
    """Whether a folder can be called so on every system, and has that very name then."""
    if not name or name.startswith((".", "__MACOSX")) or FORBIDDEN & set(name):
        return False
    return name == name.rstrip(". ") and name.split(".")[0].rstrip().lower() not in DEVICES


def folder_names(names: list[str]) -> list[str]:
    """Names of folders for classes that, read in order, number the classes as before: their own where that holds, else
    with the number before the name."""
    plain_names = all(map(portable, names))
    plain_names &= len({n.casefold() for n in names}) == len(names)  # many systems know no case of letters
    if plain_names and sorted(names, key=natural) == names:
        return names
    width = len(str(len(names) - 1))
    clean = ["".join("-" if c in FORBIDDEN else c for c in n) for n in names]
    return [f"{k:0{width}d}-{n}".rstrip(". ") for k, n in enumerate(clean)]


def write_parquet(out: Path, parts: Parts, labels: Tensor, names: list[str], manifest: dict[str, Any]) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    schema = pa.schema(
        [("image", kind), ("label", pa.int64())], {"huggingface": json.dumps({"info": {"features": features}})}
    )
    row, digest = 0, hashlib.sha256()
    with atomic(out) as part, pq.ParquetWriter(part, schema) as writer:
        for images in parts:
            digest.update(images.tobytes())
            rows = []
            for image in images:
                buffer = io.BytesIO()
                picture(image).save(buffer, "PNG")
                rows.append({"bytes": buffer.getvalue(), "path": None})
            columns = {"image": rows, "label": labels[row : row + len(images)].numpy()}
            writer.write_table(pa.table(columns, schema=schema))
            row += len(images)
        manifest["sha256"] = digest.hexdigest()
        writer.add_key_value_metadata({"latentforge": json.dumps(manifest)})


def read_manifest(path: str | Path) -> dict[str, Any]:
    """What `augment` says of the samples it wrote at `path`. InputError where there is no manifest."""
    path = place(path)
    try:
        if path.is_dir():
            return json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            return json.loads(pq.read_metadata(path).metadata[b"latentforge"])
        with np.load(path, allow_pickle=False) as file:
            return json.loads(str(file["manifest"]))
    except (OSError, KeyError, TypeError, ValueError):
        raise InputError(f"{path} has no manifest; give what 'latentforge augment' wrote.") from None
