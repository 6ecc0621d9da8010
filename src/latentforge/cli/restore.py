"""`latentforge restore RUN`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Place
from latentforge.cli.inputs import image_source, open_images, read_all, say
from latentforge.errors import InputError

TASKS = ("denoise", "deblur", "superres", "inpaint", "enhance")


@click.command("restore")
@click.argument("run", type=Place())
@click.option(
    "--task", type=click.Choice(TASKS), help="what is wrong with the images  [what a restorer was trained for]"
)
@click.option("--operator", help="how the images were degraded: noise:0.5, clipped:0.2, blur:1, downsample:4, hole:14, "
              "lower:0.5, pixels:0.75, faded:0.5 or none  [the task's]")  # fmt: skip
@click.option("--in", "source", help="image, folder or file of degraded images")
@click.option(
    "--spoil", is_flag=True, help="degrade clean images (the run's test images, or --data), restore and measure"
)
@click.option("--mask", type=Place(), help="an image, black where pixels are missing")
@click.option("-n", "--number", type=click.IntRange(1), help="how many images at most  [all; 256 with --spoil]")
@click.option("--steps", default=200, type=click.IntRange(1), help="optimisation steps when a latent code is searched "
              "for  [200]")  # fmt: skip
@click.option("--seed", default=0, type=click.IntRange(0), help="seed of the added noise and of the search  [0]")
@click.option("--out", type=Place(), help="sheet.png (degraded, restored, original), arrays.npz or a directory of "
              "restored images  [RUN/restored.png]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@image_source
def command(
    run: Path, task: str | None, operator: str | None, source: str | None, spoil: bool, mask: Path | None,
    number: int | None, steps: int, seed: int, out: Path | None, as_json: bool, **clean: Any,
) -> None:  # fmt: skip
    """Restore degraded images: with a model trained for it, or by searching the latent space of any decoder for the image
    that explains them. With --spoil, clean images are degraded first, and PSNR and SSIM are printed."""
    import sys

    import latentforge as lf
    from latentforge.cli.tables import print_table
    from latentforge.data.decode import ManySizes
    from latentforge.parts.operators import spoil as spoil_images
    from latentforge.tasks.encode import need_channels
    from latentforge.tasks.output import check_place
    from latentforge.tasks.restore import operator_for

    if spoil == (source is not None):
        raise click.UsageError("name degraded images with --in, or degrade clean ones with --spoil.")
    if source is not None and clean["data"] is not None:
        raise InputError("--data names clean images for --spoil; leave it out beside --in.")
    out = out or run / "restored.png"
    check_place(out, ".png", ".npz", "")
    model = lf.load(run)
    op = operator_for(model, task, operator)
    known = None if mask is None else (read(str(mask), 1, clean)[0] > 0.5).float()[:1]
    words = sys.stderr if as_json else sys.stdout  # what is no JSON
    original: Any = None
    names: list[str] | None = None
    if spoil:
        images = open_images(run, model, told=False, **clean)
        original = images[images.spread(number or 256)].image.cpu()
        spoilt = spoil_images(original, op, seed) if known is None else op.observe(original, known)
    else:
        try:
            read_in, names = read(str(source), clean["channels"], clean)
        except ManySizes as error:
            folder = Path(str(source)).expanduser()
            need_own_sizes(model, op, folder, out, error.what)
            print(restore_each(model, op, folder, known, number, clean, out), file=words)
            return
        need_channels(model, read_in.shape[1], str(source))
        spoilt, names = op.observe(read_in[:number], known), names[:number]
    whole = None if original is None else (original.shape[2], original.shape[3])
    restored = lf.restore(model, spoilt, op, size=whole, steps=steps, seed=seed)
    size = (restored.shape[2], restored.shape[3])
    before = op.naive(spoilt, size).clamp(0, 1)
    print(write(out, before, restored, original, names), file=words)
    if original is not None:
        print_table(rows(before, restored, original), as_json)


def read(source: str, channels: int | None, options: dict[str, Any]) -> tuple[Any, list[str]]:
    """All images at `source`, a single one included, of its own size: (N, C, H, W) in [0, 1], and what they are called."""
    how = {k: options[k] for k in ("data_dir", "image_size", "skip_bad")}
    given = read_all(source, channels=channels, **how)
    images = given.images
    if not len(images):
        raise InputError(f"{source}: there are no images in it.")
    return images[images.spread(len(images))].image, given.names


def need_own_sizes(model: Any, op: Any, folder: Path, out: Path, what: str) -> None:
    """InputError, which begins with `what`, unless images of several sizes can be restored one by one: by a restorer, those of
    a folder, into a directory."""
    if not model.has_restorer:
        h, w = (-(-side // op.factor) for side in model.image_shape[1:])
        raise InputError(
            f"{what}; a search through codes restores images of one size, add --image-size {h}x{w}."
        ) from None
    if out.suffix or not folder.is_dir():
        raise InputError(
            f"{what}; name a directory with --out, which gets each image of a folder in its own size, or crop and resize them "
            "all with --image-size."
        ) from None


def write(out: Path, before: Any, restored: Any, original: Any, names: list[str] | None) -> str:
    """Degraded and restored images, and the original ones where there are those, as arrays or a sheet; as a directory the
    restored ones. Returns what was written, in words."""
    import torch

    from latentforge.report.grid import to_numbers
    from latentforge.tasks.output import write_arrays, write_images

    if out.suffix.lower() == ".npz":
        extra = {} if original is None else {"originals": to_numbers(original)}
        return write_arrays(out, images=to_numbers(restored), spoilt=to_numbers(before), **extra)
    if out.suffix.lower() == ".png":
        row = [before, restored] + ([original] if original is not None else [])
        shown = torch.stack([r[:64] for r in row], 1).flatten(0, 1)
        return write_images(shown, out, columns=len(row) * (4 if len(restored) > 4 else 1))
    return write_images(restored, out, names=names)


def restore_each(
    model: Any, op: Any, folder: Path, known: Any, number: int | None, options: dict[str, Any], out: Path
) -> str:
    """Restore the images of a folder one after the other, each in its own size, into the directory `out`. Returns what was
    written, in words."""
    import torch

    import latentforge as lf
    from latentforge.data import Images
    from latentforge.data.decode import Item, read_each, shown
    from latentforge.data.folder import scan
    from latentforge.tasks.encode import need_channels
    from latentforge.tasks.output import file_names, write_folder

    files = scan(folder).everything()[:number]
    items = [Item(shown(f.relative_to(folder)), f if f.is_file() else None) for f in files]
    called = dict(zip([i.name for i in items], file_names([i.name for i in items]), strict=True))
    notes: list[str] = []

    def restored() -> Iterator[tuple[str, Any]]:
        for name, pixels in read_each(items, folder, options["channels"], options["skip_bad"], notes):
            image = Images(torch.from_numpy(pixels))[torch.arange(1)].image
            need_channels(model, image.shape[1], str(folder))
            yield called[name], lf.restore(model, op.observe(image, known), op)[0]

    text = write_folder(restored(), out)
    say(notes)
    return text


def rows(before: Any, restored: Any, original: Any) -> list[dict[str, Any]]:
    """Mean PSNR and SSIM of degraded and restored images."""
    from latentforge.metrics.reconstruction import WINDOW, psnr, ssim

    measures = [("psnr", "dB", psnr)] + ([("ssim", "", ssim)] if min(original.shape[2:]) >= WINDOW else [])
    return [
        {"measure": name, "unit": unit, "spoilt": float(f(before, original).mean()),
         "restored": float(f(restored, original).mean()), "images": len(original)}
        for name, unit, f in measures
    ]  # fmt: skip
