"""`latentforge edit RUN`."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Numbers, Place
from latentforge.cli.inputs import image_source, open_fitting, open_images, training_data
from latentforge.cli.tables import print_table
from latentforge.errors import InputError

SHARES = (0.0, 0.5, 1.0, 1.5, 2.0)  # of an attribute vector
DEVIATIONS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # along a direction


@click.command("edit")
@click.argument("run", type=Place())
@click.option("--attribute", help="class or descriptor of the training images, by name or number, to move towards")
@click.option("--against", help="class to move away from  [all others]")
@click.option("--having", type=Place(), help="folder or file of images with an attribute ...")
@click.option("--lacking", type=Place(), help="... and of images without it")
@click.option("--principal", type=click.IntRange(1), help="move along this many principal directions of the codes")
@click.option("--dimension", type=Numbers(int), help="move along single latent dimensions: 0,3")
@click.option("--strengths", type=Numbers(float), help="how far: shares of the attribute vector  [0,.5,1,1.5,2], or "
              "standard deviations along a direction  [-3,-2,-1,0,1,2,3]")  # fmt: skip
@click.option("--in", "files", type=Place(), help="edit these instead: an image or a folder of any number")
@click.option("-n", "--number", type=click.IntRange(1), help="how many images  [8, or 1 along directions; all of --in]")
@click.option("--detail", is_flag=True, help="add to each edit what the reconstruction loses of the image")
@click.option("--seed", default=0, help="seed of the codes that are drawn without an encoder  [0]")
@click.option("--out", type=Place(), help="sheet.png, arrays.npz or a directory  [RUN/edits.png]")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@image_source
def command(
    run: Path, attribute: str | None, against: str | None, having: Path | None, lacking: Path | None,
    principal: int | None, dimension: tuple[int, ...] | None, strengths: tuple[float, ...] | None, files: Path | None,
    number: int | None, detail: bool, seed: int, out: Path | None, as_json: bool, **source: Any,
) -> None:  # fmt: skip
    """Change an attribute of images by adding to their codes the mean code of images that have it minus that of images
    that lack it (--attribute, or --having and --lacking); or move along directions of latent space (--principal,
    --dimension). Vector and directions come from the training images; held-out ones are edited."""
    import torch

    import latentforge as lf
    from latentforge.data.modes import is_points
    from latentforge.tasks.edit import labelled
    from latentforge.tasks.encode import need_encoder
    from latentforge.tasks.output import check_place

    asked = {
        "--attribute": attribute, "--having": having or lacking, "--principal": principal, "--dimension": dimension,
    }  # fmt: skip
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
    if detail and walk:
        raise InputError("--detail belongs to an attribute's edits; leave it out with --principal and --dimension.")
    steps = torch.tensor(strengths if strengths is not None else DEVIATIONS if walk else SHARES)
    if not len(steps) or not steps.isfinite().all():
        raise InputError("--strengths: give finite numbers, as in 0,.5,1.")
    out = out or run / "edits.png"
    check_place(out, ".png", ".npz", "")
    model = lf.load(run)
    if is_points(model.image_shape):
        check_place(out, ".npz")
    if principal is not None or files is not None or not walk:
        need_encoder(model)
    if source["data"] is not None and (files is not None or not model.has_encoder) and (run / "config.yaml").is_file():
        raise InputError(
            "--in names the images to edit; leave out --data."
            if files
            else f"{model.name} has no encoder, so its traversals begin at sampled codes; leave out --data."
        )
    number, skip = number or (None if files else 1 if walk else 8), source["skip_bad"]
    images = None
    if model.has_encoder:
        images = open_fitting(model, files, skip) if files else open_images(run, model, **source)
        images = images.select(images.spread(number or len(images)))
    rows: list[dict[str, Any]]
    if walk:
        known = training_data(run, model, **source).train if images is not None else None
        rows, text = along(model, images, known, principal, dimension, steps, number or 1, seed, out)
    else:
        if attribute is not None:
            sets = labelled(training_data(run, model, **source), attribute, against)
        elif having is not None and lacking is not None:
            sets = open_fitting(model, having, skip), open_fitting(model, lacking, skip)
        names = {"attribute": attribute or str(having), "against": against or str(lacking or "all others")}
        rows, text = towards(model, images, sets, steps, detail, names, out)
    print_table(rows, as_json)
    print(text, file=sys.stderr if as_json else sys.stdout)


def towards(
    model: Any, images: Any, sets: tuple[Any, Any], steps: Any, detail: bool, names: dict[str, str], out: Path
) -> tuple[list[dict[str, Any]], str]:
    """Edit by an attribute vector; what there is to say of it, and what was written."""
    import torch

    import latentforge as lf
    from latentforge.tasks.edit import vector_between, write_edits

    vector, auroc = vector_between(model, *sets)
    originals = images[torch.arange(len(images))].image.cpu()
    edited = lf.edit(model, images, vector, steps, detail)
    text = write_edits(out, originals, edited, strengths=steps.numpy(), vector=vector.numpy())
    return [{**names, "with": len(sets[0]), "without": len(sets[1]), "length": float(vector.norm()),
             "auroc of their codes": None if math.isnan(auroc) else auroc}], text  # fmt: skip


def along(
    model: Any, images: Any, known: Any, principal: int | None, dimension: tuple[int, ...] | None, steps: Any, number: int,
    seed: int, out: Path,
) -> tuple[list[dict[str, Any]], str]:  # fmt: skip
    """Walk along directions of the codes of the images `known`, or of drawn codes where the model has no encoder."""
    import torch

    import latentforge as lf
    from latentforge.tasks.directions import principal_directions, single_dimensions
    from latentforge.tasks.edit import told, write_edits

    if images is None:
        y = model.draw_labels(number, seed=seed)
        codes, codes_known = model.draw_codes(number, seed, y).cpu(), model.draw_codes(1000, seed + 1).cpu()
    else:
        codes, y, codes_known = lf.embed(model, images)[0], told(model, images), lf.embed(model, known)[0]
    if principal is not None:
        found, names = principal_directions(codes_known, principal), [f"principal {i + 1}" for i in range(principal)]
    else:
        found, names = single_dimensions(codes_known, dimension or ()), [f"code {j}" for j in dimension or ()]
    edited = lf.traverse(model, codes, found, steps, y)
    originals = None if images is None else images[torch.arange(len(images))].image.cpu()
    text = write_edits(out, originals, edited, strengths=steps.numpy(), directions=found.axes.numpy())
    return [
        {"direction": name, "share of variance": float(share), "standard deviation": float(s)}
        for name, share, s in zip(names, found.share, found.stddev, strict=True)
    ], text
