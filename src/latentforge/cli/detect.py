"""`latentforge detect RUN`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Place
from latentforge.cli.inputs import image_source, open_given, reference, say
from latentforge.cli.tables import print_table
from latentforge.errors import InputError


@click.command("detect")
@click.argument("run", type=Place(), required=False)
@image_source
@click.option("--score", default="auto", help="scores to combine, comma-separated (see --list); auto: pixels, features, "
              "codes and density, as far as the model has them  [auto]")  # fmt: skip
@click.option("--quantile", type=float, help="threshold: what this share of normal images stays under  [.95]")
@click.option("--contamination", type=float, help="threshold: this share of the images is called anomalous")
@click.option("--normal", help="normal images: folder or file  [the run's training and validation images]")
@click.option("--seed", default=0, help="seed of the noise in a likelihood  [0]")
@click.option("--out", type=Place(), help="scores.csv or scores.npz  [RUN/scores.csv]")
@click.option("--heatmaps", type=Place(), help="sheet.png: the images with the highest scores, their "
              "reconstructions and where the two differ")  # fmt: skip
@click.option("-n", "--number", default=10, type=click.IntRange(1), help="how many of these are shown  [10]")
@click.option("--list", "show", is_flag=True, help="list the scores and stop")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def command(
    run: Path | None, score: str, quantile: float | None, contamination: float | None, normal: str | None, seed: int,
    out: Path | None, heatmaps: Path | None, number: int, show: bool, as_json: bool, **source: Any,
) -> None:  # fmt: skip
    """Find anomalies: images unlike those a model was trained on. A folder or file given with --data is judged whole, in its
    order. A score above the threshold is an anomaly; the scores do not depend on the threshold."""
    import latentforge as lf
    from latentforge.tasks.detect import QUANTILE, Detector, check_share, heat_sheet, need_reconstruction
    from latentforge.tasks.output import check_place, write_columns, write_images
    from latentforge.tasks.scores import AUTO, SCORES

    if show:
        print_table([{"score": k, "what": s.what, "auto": k in AUTO} for k, s in SCORES.items()], as_json)
        return
    if run is None:
        raise click.UsageError("Missing argument 'RUN'.", click.get_current_context())
    if quantile is not None and contamination is not None:
        raise InputError("--quantile and --contamination both choose the threshold; give one of them.")
    for name, share in (("--quantile", quantile), ("--contamination", contamination)):
        if share is not None:
            check_share(name, share)
    out = out or run / "scores.csv"
    check_place(out, ".csv", ".npz")
    if heatmaps:
        check_place(heatmaps, ".png", flag="--heatmaps")
    model = lf.load(run)
    if heatmaps:
        need_reconstruction(model)
    given = open_given(run, model, told=False, **source)
    images, names = given.images, given.names
    usual, held = reference(run, model, normal, source)
    detector = Detector(model, usual, held, score, seed)
    found = detector.detect(images, quantile or QUANTILE, contamination)
    if contamination is None and (doubt := detector.doubt(quantile or QUANTILE)):
        say([doubt])
    looked_at = len(detector.normal_scores if contamination is None else images)
    strangest = found.score.argsort(descending=True)[:number]
    sheet = None
    if heatmaps:
        like = held or usual
        sheet = heat_sheet(detector, images[strangest].image, like[like.spread(256)].image)
    columns = {"image": names, "score": found.score.numpy(), "anomaly": found.anomaly.int().numpy()}
    columns |= {k: v.numpy() for k, v in found.parts.items()}
    text = write_columns(out, columns, threshold=found.threshold, threshold_from=looked_at)
    if heatmaps and sheet is not None:
        text += "\n" + write_images(sheet, heatmaps, columns=3 * -(-len(strangest) // 10))
    rows = [{"image": names[i], "score": float(found.score[i]), "anomaly": bool(found.anomaly[i])} for i in strangest]
    anomalies = int(found.anomaly.sum())
    if as_json:
        summary = {
            "images": len(images), "scores": detector.names, "threshold": found.threshold, "threshold_from": looked_at,
            "anomalies": anomalies,
        }  # fmt: skip
        print(json.dumps(summary | {"strangest": rows}, indent=2))
        return
    print_table(rows, False)
    print(
        f"{anomalies} of {len(images)} images are above the threshold {found.threshold:.4g} ({', '.join(detector.names)})"
    )
    print(text)
