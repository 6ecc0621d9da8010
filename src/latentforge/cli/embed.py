"""`latentforge embed RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from latentforge.cli.flags import Place
from latentforge.cli.inputs import image_source, is_own, open_given, training_data
from latentforge.errors import InputError


@click.command("embed")
@click.argument("run", type=Place())
@click.option(
    "--neighbours", type=click.IntRange(1), help="also find this many nearest training images, by their codes"
)
@click.option("-n", "--number", default=8, type=click.IntRange(1), help="images on a sheet of neighbours  [8]")
@click.option("--out", type=Place(), help="codes.npz, or with --neighbours also sheet.png  [RUN/codes.npz, or "
              "RUN/neighbours.png]")  # fmt: skip
@image_source
def command(run: Path, neighbours: int | None, number: int, out: Path | None, **source: Any) -> None:
    """Write the codes of images: `mean` and `stddev` (N, Z) float32, `labels` where there are any, and `names`: those of files
    in a folder, row numbers elsewhere. A folder or file given with --data is taken whole, in its order, unless a --split of it
    is asked for. With --neighbours K also `neighbours` (N, K), rows of the training images, and `distances`; or, as a PNG, a
    sheet with a row per image, the image first and its neighbours behind it. With --split
    train a training image is not its own neighbour."""
    import latentforge as lf
    from latentforge.tasks.encode import need_encoder
    from latentforge.tasks.output import check_place, write_arrays

    out = out or run / ("neighbours.png" if neighbours else "codes.npz")
    check_place(out, ".npz", *([".png"] if neighbours else []))
    model = lf.load(run)
    need_encoder(model)
    given = open_given(run, model, **source)
    images = given.images
    if neighbours and out.suffix.lower() == ".png":
        print(sheet(run, model, images, neighbours, number, out, source))
        return
    mean, stddev = lf.embed(model, images)
    arrays = {"mean": mean.numpy(), "stddev": stddev.numpy(), "names": np.array(given.names)}
    if images.labels is not None:
        arrays["labels"] = images.labels.numpy()
    if neighbours:
        train = training_data(run, model, **source).train
        index, distance = lf.neighbours(mean, lf.embed(model, train)[0], neighbours, own=own(run, source))
        arrays |= {"neighbours": index.numpy(), "distances": distance.numpy()}
    print(write_arrays(out, **arrays))


def own(run: Path, source: dict[str, Any]) -> bool:
    """Whether the images begin with the training images themselves, row by row."""
    from latentforge.data.named import SETS

    exported = not (run / "config.yaml").is_file()
    trained_here = source["data"] is None or exported or is_own(run, source["data"])
    in_turn = source["split"] == "all" and (source["data"] is None or source["data"] in SETS)
    return trained_here and (source["split"] == "train" or in_turn)


def sheet(run: Path, model: Any, images: Any, k: int, number: int, out: Path, source: dict[str, Any]) -> str:
    """A row per image, chosen all over the split: the image, and its k neighbours."""
    import torch

    import latentforge as lf
    from latentforge.data.modes import is_points
    from latentforge.tasks.output import write_images

    if is_points(model.image_shape):
        raise InputError(f"--out {out}: points have no sheet; write to NAME.npz.")
    train = training_data(run, model, **source).train
    rows = images.spread(number)
    codes, known = lf.embed(model, images)[0], lf.embed(model, train)[0]
    index, _ = lf.neighbours(codes, known, k, own=own(run, source))
    near = train[index[rows].flatten()].image.cpu().unflatten(0, (len(rows), k))
    both = torch.cat([images[rows].image.cpu()[:, None], near], 1)
    return write_images(both.flatten(0, 1), out, columns=k + 1)
