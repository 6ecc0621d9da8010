"""`latentforge edit RUN`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Numbers
from latentforge.cli.inputs import image_source, open_images, training_data
from latentforge.cli.tables import print_table
from latentforge.errors import InputError

SHARES = (0.0, 0.5, 1.0, 1.5, 2.0)  # of an attribute vector
DEVIATIONS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # along a direction


@click.command("edit")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--attribute", help="class or descriptor of the training images, by name or number, to move towards")
@click.option("--against", help="class to move away from  [all others]")
@click.option("--having", type=click.Path(path_type=Path), help="folder or file of images with an attribute ...")
@click.option("--lacking", type=click.Path(path_type=Path), help="... and of images without it")
@click.option("--principal", type=click.IntRange(1), help="walk along so many principal directions of the codes")
@click.option("--dimension", type=Numbers(int), help="walk along single numbers of the code: 0,3")
@click.option("--strengths", type=Numbers(float), help="how far: shares of the attribute vector  [0,.5,1,1.5,2], or "
              "standard deviations along a direction  [-3,-2,-1,0,1,2,3]")  # fmt: skip
@click.option(
    "--in", "files", type=click.Path(path_type=Path), help="edit these instead: an image or a folder of any number"
)
@click.option("-n", "--number", type=click.IntRange(1), help="how many images  [8, or 1 to walk; all of --in]")
@click.option("--seed", default=0, help="seed of the codes that are drawn without an encoder  [0]")
@click.option("--out", type=click.Path(path_type=Path), help="sheet.png, arrays.npz or a directory")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@image_source
def command(
    run: Path, attribute: str | None, against: str | None, having: Path | None, lacking: Path | None,
    principal: int | None, dimension: tuple[int, ...] | None, strengths: tuple[float, ...] | None, files: Path | None,
    number: int | None, seed: int, out: Path | None, as_json: bool, **source: Any,
) -> None:  # fmt: skip
    """Change an attribute of images by adding to their codes the mean code of images that have it minus that of images
    that lack it (--attribute, or --having and --lacking); or walk along directions of code space (--principal,
    --dimension). Vector and directions come from the training images; held-out ones are edited."""
    import torch

    import latentforge as lf
    from latentforge.data.modes import is_points
    from latentforge.data.whole import open_whole
    from latentforge.tasks.encode import need_encoder
    from latentforge.tasks.output import check_place

    asked = {
        "--attribute": attribute,
        "--having": having or lacking,
        "--principal": principal,
        "--dimension": dimension,
    }
    chosen = [k for k, v in asked.items() if v is not None]
    if len(chosen) != 1:
        raise InputError(
            f"say what to change with one of {', '.join(asked)}, not with {' and '.join(chosen) or 'none'}."
        )
    if (having is None) != (lacking is None):
        raise InputError("give both --having and --lacking, or name a class with --attribute.")
    if against is not None and attribute is None:
        raise InputError("--against names the class that --attribute is held against; give that too.")
    walk = principal is not None or dimension is not None
    steps = torch.tensor(strengths if strengths is not None else DEVIATIONS if walk else SHARES)
    if not len(steps) or not steps.isfinite().all():
        raise InputError("--strengths: give finite numbers, as in 0,.5,1.")
    out = out or run / "edits.png"
    check_place(out, ".png", ".npz", "")
    model = lf.load(run)
    if is_points(model.image_shape):
        check_place(out, ".npz")
    if principal is not None or not walk:
        need_encoder(model)
    number = number or (None if files else 1 if walk else 8)
    images = None
    if model.has_encoder:
        images = open_whole(files, model.image_shape) if files else open_images(run, model, **source)
        images = images.select(images.spread(number or len(images)))

    rows: list[dict[str, Any]]
    if walk:
        rows, arrays = along(run, model, images, principal, dimension, steps, number or 1, seed, source)
    else:
        assert images is not None
        if having is not None and lacking is not None:
            sets = (open_whole(having, model.image_shape), open_whole(lacking, model.image_shape))
        else:
            from latentforge.tasks.edit import labelled

            sets = labelled(training_data(run, model, **source), str(attribute), against)
        rows, arrays = towards(model, images, sets, steps)
        rows = [{"attribute": attribute or str(having), "against": against or (str(lacking) if lacking else "all others"),
                 **rows[0]}]  # fmt: skip
    text = write(arrays, out, walk)
    print_table(rows, as_json)
    print(text, file=sys.stderr if as_json else sys.stdout)


def towards(model: Any, images: Any, sets: tuple[Any, Any], steps: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Edits by an attribute vector. The row says how well the codes of the two sets lie apart along it."""
    import torch
    from sklearn.metrics import roc_auc_score

    from latentforge.tasks.edit import attribute_vector, edit
    from latentforge.tasks.encode import embed

    vector = attribute_vector(model, *sets)
    along = [embed(model, s)[0] @ vector for s in sets]
    has = torch.cat([torch.ones(len(along[0])), torch.zeros(len(along[1]))])
    row = {"with": len(sets[0]), "without": len(sets[1]), "length": float(vector.norm()),
           "auroc of their codes": float(roc_auc_score(has, torch.cat(along)))}  # fmt: skip
    originals = images[torch.arange(len(images))].image.cpu()
    return [row], {"originals": originals, "edited": edit(model, images, vector, steps), "strengths": steps,
                   "vector": vector}  # fmt: skip


def along(
    run: Path, model: Any, images: Any, principal: int | None, dimension: tuple[int, ...] | None, steps: Any, number: int,
    seed: int, source: dict[str, Any],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:  # fmt: skip
    """Walks along directions of the training images' codes, or of drawn codes where the model has no encoder."""
    import torch

    import latentforge as lf
    from latentforge.tasks.edit import principal_directions, single_dimensions, told, traverse

    if images is None:
        y = model.draw_labels(number, seed=seed)
        codes, known = model.draw_codes(number, seed, y).cpu(), model.draw_codes(1000, seed + 1).cpu()
    else:
        train = training_data(run, model, **source).train
        codes, y = lf.embed(model, images)[0], told(model, images)
        known = lf.embed(model, train)[0]
    found = principal_directions(known, principal) if principal else single_dimensions(known, dimension or ())
    names = (
        [f"principal {i + 1}" for i in range(len(found.axes))] if principal else [f"code {j}" for j in dimension or ()]
    )
    rows = [{"direction": name, "share of variance": float(share), "standard deviation": float(s)}
            for name, share, s in zip(names, found.share, found.stddev, strict=True)]  # fmt: skip
    edited = traverse(model, codes, found, steps, y)
    originals = torch.zeros(0, *model.image_shape) if images is None else images[torch.arange(len(images))].image.cpu()
    return rows, {"originals": originals, "edited": edited, "strengths": steps, "directions": found.axes}


def write(arrays: dict[str, Any], out: Path, walk: bool) -> str:
    """A sheet with a row per image, its original first (of walks, a row per image and direction); all arrays; or the
    edited images alone."""
    import torch

    from latentforge.data.modes import is_points
    from latentforge.report.grid import to_uint8
    from latentforge.tasks.output import write_arrays, write_images

    edited, originals = arrays["edited"], arrays["originals"]
    shape = edited.shape[-3:]
    if out.suffix.lower() == ".npz":

        def kept(x: Any) -> Any:
            flat = x.reshape(-1, *shape)
            values = flat.permute(0, 2, 3, 1).numpy() if is_points(tuple(shape)) else to_uint8(flat)
            return values.reshape(*x.shape[:-3], *values.shape[1:])

        pixels = {k: kept(arrays[k]) for k in ("originals", "edited") if len(arrays[k])}
        return write_arrays(
            out, **pixels, **{k: v.numpy() for k, v in arrays.items() if k not in ("originals", "edited")}
        )
    if out.suffix.lower() == ".png" and not walk:
        sheet = torch.cat([originals[:, None], edited], 1)
        return write_images(sheet.flatten(0, 1), out, columns=sheet.shape[1])
    return write_images(edited.reshape(-1, *shape), out, columns=edited.shape[-4])
