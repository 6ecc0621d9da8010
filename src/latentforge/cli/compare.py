"""`latentforge compare MODEL ...`."""

from __future__ import annotations

import itertools
from pathlib import Path

import click

from latentforge.cli.flags import Place
from latentforge.files import place


@click.command("compare", context_settings={"ignore_unknown_options": True})
@click.argument("what", nargs=-1, type=click.UNPROCESSED)
@click.option("--data", help="named set, folder of images, .npz, .npy or .parquet file  [mnist-5k]")
@click.option("--data-dir", help="where named sets are looked for first")
@click.option("--image-size", help="crop and resize: 64 or 30x46")
@click.option("--channels", type=click.IntRange(1, 4), help="force the channels of images")
@click.option("--skip-bad", is_flag=True, help="leave out files that cannot be read instead of stopping")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="budget of each training  [5]")
@click.option("--examples", type=click.IntRange(1), help="budget in training images")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="budget in passes over the training images")
@click.option("--seeds", type=click.IntRange(1), default=1, help="trainings of each model, seeds 0, 1 ...  [1]")
@click.option("--split", type=click.Choice(["validation", "test"]), default="test", help="which images  [test]")
@click.option("--metrics", help="see 'latentforge evaluate --list'  [the quick ones]")
@click.option("--features", default="auto", help="feature space for comparing samples: auto, digits, labels, self, pca50, "
              "inception  [auto]")  # fmt: skip
@click.option("--repeats", type=click.IntRange(0), default=16, help="half-samples per interval  [16]")
@click.option("--out", type=Place(), help="folder; what is finished in it is kept  [comparisons/NAMES]")
@click.option("--quiet", is_flag=True, help="no progress")
def command(
    what: tuple[str, ...], seeds: int, split: str, metrics: str | None, features: str, repeats: int, out: Path | None,
    quiet: bool, **shared: object,
) -> None:  # fmt: skip
    """Train models on the same data with the same budget, measure them alike, and write one page that puts them side by
    side.

    \b
    latentforge compare vae gan vae-gan --data mnist --minutes 5
    latentforge compare vae "vae --sampler gmm" runs/mine --out comparisons/mine

    Each of WHAT is a model, a model with its flags in quotes, or the directory of a finished run. Run it again with the
    same --out to go on where it stopped, or with more models.
    """
    from latentforge.errors import InputError
    from latentforge.tasks.compare import compare
    from latentforge.tasks.evaluate import QUICK

    flag = next((w for w in what if w.startswith("-")), None)
    if flag is not None:
        raise InputError(
            f'compare has no flag {flag}; give a model its own flags in quotes, as in "vae --sampler gmm".'
        )
    train = [[f"--{k.replace('_', '-')}", *([] if v is True else [f"{v:g}" if isinstance(v, float) else str(v)])]
             for k, v in shared.items() if v]  # fmt: skip
    if not all(w.strip() for w in what):
        raise InputError("an empty name is no model; name models or runs, as in 'latentforge compare vae gan'.")
    folder = out or free("-".join(map(called, what)) or "none")
    chosen = QUICK if metrics is None else tuple(metrics.split(","))
    compare(what, folder, train=list(itertools.chain(*train)), seeds=seeds, split=split, metrics=chosen,
            features=tuple(features.split(",")), repeats=repeats, quiet=quiet)  # fmt: skip
    print(f"report    {folder / 'comparison.html'}\nnumbers   {folder / 'comparison.json'}")


def called(words: str) -> str:
    """What the folder calls one of WHAT: a run as its directory is called, a model without its flags."""
    return place(words).resolve().name if place(words).is_dir() else Path(words.split()[0]).name


def free(name: str) -> Path:
    """comparisons/NAME, or NAME-2 ... where that exists."""
    names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    return next(p for p in (Path("comparisons") / n for n in names) if not p.exists())
