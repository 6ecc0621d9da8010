"""`latentforge classify RUN`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from latentforge.cli.flags import Place
from latentforge.cli.inputs import data_of, image_source, open_given, say
from latentforge.cli.tables import print_table
from latentforge.errors import InputError


@click.command("classify")
@click.argument("run", type=Place())
@image_source
@click.option("--codes", default=8, type=click.IntRange(1), help="latent samples per image and class in the estimate "
              "of log p(x | y)  [8]")  # fmt: skip
@click.option("--reject", default=0.01, type=click.FloatRange(0, 1), help="share of images of the classes to reject, those "
              "with the lowest log p(x)  [.01]")  # fmt: skip
@click.option("--seed", default=0, help="seed of the codes  [0]")
@click.option("--out", type=Place(), help="labels.csv or labels.npz  [RUN/labels.csv]")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def command(run: Path, codes: int, reject: float, seed: int, out: Path | None, as_json: bool, **source: Any) -> None:
    """Classify images by Bayes' rule with a model that is conditioned on classes and has a likelihood: p(y | x), and
    log p(x), which is low for images of no class. A model that learned from few labels gives p(y | x) itself. A folder or
    file given with --data is judged whole, in its order; where it has classes, they are compared."""
    import latentforge as lf
    from latentforge.tasks.classify import Verdict, log_verdicts, need_classes, tells_classes
    from latentforge.tasks.output import check_place, write_columns

    out = out or run / "labels.csv"
    check_place(out, ".csv", ".npz")
    model = lf.load(run)
    density = not tells_classes(model)
    if density:
        need_classes(model)
    given, why = open_given(run, model, told=False, **source), f"{run} carries no data"
    try:
        data = data_of(run)
    except InputError as error:  # what it was trained on is needed for calibration and rejection alone
        data, why = None, str(error).partition(";")[0]
    images, temperature, classes = given.images, 1.0, None
    least: float | None = None
    if data is not None:
        classes = data.classes
        temperature, least = calibrated(model, data, codes, seed, reject if density else None)
    else:
        print(f"{why}: its probabilities are not calibrated, and nothing is rejected", file=sys.stderr)
    found = Verdict(log_verdicts(model, images, codes, seed), temperature)
    classes = classes or model.classes or [str(k) for k in range(found.log_joint.shape[1])]
    rejected = found.log_evidence < (float("-inf") if least is None else least)
    columns: dict[str, Any] = {
        "image": given.names, "label": found.label.tolist(), "class": [classes[k] for k in found.label.tolist()],
        "probability": found.probability.max(1).values.tolist(),
    }  # fmt: skip
    if density:
        columns |= {"log_px": found.log_evidence.tolist(), "rejected": rejected.int().tolist()}
    single = {} if least is None else {"least_log_px": least}
    text = write_columns(out, columns, probabilities=found.probability.numpy(), temperature=temperature, **single)
    summary: dict[str, Any] = {"images": len(images), "temperature": temperature}
    if density:
        summary |= {"rejected": int(rejected.sum()), "least_log_px": least}
    summary |= judged(found, images.labels, given.classes, classes, None if least is None else rejected)
    if as_json:
        print(json.dumps(summary, indent=2))
        return
    print_table([{"measure": k, "value": v} for k, v in summary.items()], False)
    print(text)


def calibrated(model: Any, data: Any, codes: int, seed: int, reject: float | None) -> tuple[float, float | None]:
    """By the validation images: the temperature, and the log p(x) that the share `reject` of them does not reach; None where
    there is no density."""
    from latentforge.tasks.classify import fit_temperature, least_evidence, log_verdicts

    held = log_verdicts(model, data.validation, codes, seed)
    told = data.validation.labels >= 0  # -1: without a label
    temperature = fit_temperature(held[told], data.validation.labels[told]) if told.any() else 1.0
    if reject is None:
        return temperature, None
    if 0 < reject < 1 / (len(held) + 1):
        few = f"{len(held)} held-out images are too few for --reject {reject:g}"
        say([f"{few}: about 1 in {len(held) + 1} images of the classes is refused"])
    return temperature, least_evidence(held.logsumexp(1), reject)


def judged(found: Any, labels: Any, theirs: list[str] | None, ours: list[str], rejected: Any) -> dict[str, Any]:
    """How right verdicts are about images that have labels (N,); images without one, and of no class of the model's, are
    counted apart, and those of no class that are `rejected` (N,), where anything is."""
    from latentforge.tasks.classify import Verdict, measures

    if labels is None or labels.is_floating_point():
        return {}
    known = (labels := labels.cpu()) >= 0
    out: dict[str, Any] = {"without_label": int((~known).sum())}
    if known.any():
        truth, joint = by_name(labels[known], theirs, ours), found.log_joint[known]
        of_class = truth >= 0
        out["of_no_class"] = int((~of_class).sum())
        if of_class.any():
            out |= measures(Verdict(joint[of_class], found.temperature), truth[of_class])
        if not of_class.all() and rejected is not None:
            out["rejected_of_no_class"] = int(rejected[known][~of_class].sum())
    return out


def by_name(labels: Any, theirs: list[str] | None, ours: list[str]) -> Any:
    """Labels (N,), all known, of other images as the model's classes of the same names, or numbers where they have no
    names; -1 where it has none of that name."""
    import torch

    if theirs is None:  # numbers alone
        return torch.where(labels < len(ours), labels, -1)
    number = {name: k for k, name in reversed([*enumerate(ours)])}  # the first of those that are called alike
    return torch.tensor([number.get(name, -1) for name in theirs])[labels]
