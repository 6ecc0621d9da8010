"""Write the generated parts of the documentation: the README's table of models, docs/results.md, docs/presets.md and the
measured tables of the families' pages.

python benchmarks/readme.py          # write
python benchmarks/readme.py --check  # exit 1 where something is out of date
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path

import augment
import classify
import compress
import critic_loss
import density
import detect
import doctor
import edit
import fewlabels
import finetune
import flagship
import growth
import modes
import precision
import presets as preset_results
import reference
import restore
import restore_ways
import startup
import studies
import uses
import zoo
from click import Context
from speed import bench

import latentforge as lf
from latentforge.cli import VERBS, root
from latentforge.cli.train import train_command
from latentforge.diagnose.rules import RULES
from latentforge.registry import KINDS, MODELS

ROOT = Path(__file__).parent.parent


def models_table() -> str:
    lines = ["| model | kind | what it is | paper |", "| --- | --- | --- | --- |"]
    ordered = sorted(MODELS.items(), key=lambda item: list(KINDS).index(item[1].kind))
    lines += [f"| [`{k}`](docs/models/{k}.md) | {v.kind} | {v.summary} | {v.paper} |" for k, v in ordered]
    return "\n".join(lines)


def rules_table() -> str:
    lines = ["| finding | what it means | what to try |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {name} | {rule.what} | {rule.remedy()} |" for name, rule in RULES.items()])


def names_table() -> str:
    """Every public name and the first sentence of its docstring."""
    lines = ["| `lf.` | what it is |", "| --- | --- |"]
    for name in (n for n in lf.__all__ if not n.startswith("_")):
        first = re.split(r"(?<=\.)\s|\n\n", inspect.getdoc(getattr(lf, name)) or "")[0]
        lines.append(f"| `{name}` | {' '.join(first.split()).replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def verbs_table() -> str:
    """Every verb, what it does and how it is called."""
    context, lines = Context(root, info_name="latentforge"), ["| command | what it does |", "| --- | --- |"]
    for verb, about in VERBS.items():
        found = root.get_command(context, verb)
        assert found is not None
        usage = " ".join(found.collect_usage_pieces(Context(found, context, verb))).replace("[OPTIONS] ", "")
        lines.append(f"| `latentforge {verb} {usage.replace('[OPTIONS]', '')}".rstrip() + f"` | {about} |")
    return "\n".join(lines)


def train_table() -> str:
    """The flags of `train` that every model has, with their defaults in brackets."""
    lines = ["| flag | what it does | of |", "| --- | --- | --- |"]
    command = train_command("vae")
    context = Context(command, info_name="train vae")
    for p in command.params:
        section, record = getattr(p, "section", ""), p.get_help_record(context)
        if not section.startswith("Model") and record is not None:
            flag = ", ".join(f"`{o}`" for o in (*p.opts, *p.secondary_opts) if o.startswith("--"))
            lines.append(f"| {flag} | {' '.join(record[1].split()).replace('|', chr(92) + '|')} | {section.lower()} |")
    return "\n".join(lines)


FIRST_SCREEN = ("frechet", "coverage", "reconstruction_mse")


def compared(measures: tuple[str, ...] = ("frechet", "kernel", "precision", "recall", "density", "coverage", "score",
                                          "rarest-class", "memorisation", "reconstruction_mse")) -> str:  # fmt: skip
    """The table of docs/results/mnist.json, what `latentforge compare` wrote: values with their intervals."""
    entries = json.loads((ROOT / "docs" / "results" / "mnist.json").read_text())["entries"]
    rows = {name: e["test"][0] for name, e in entries.items()}
    names = [m for start in measures for m in next(iter(rows.values())) if m.startswith(start)]
    today = {"vae-gan": "larsen-vae-gan"}  # what the model of then is called
    heads = " | ".join(f"`{today.get(n, n)}`" for n in rows)
    lines = [f"| measure | better | trivial baseline | {heads} | real images |",
             "| --- | --- |" + " ---: |" * (len(rows) + 2)]  # fmt: skip
    for m in names:
        some = next(r[m] for r in rows.values() if m in r)
        cells = [
            f"{r[m]['value']:.4g} ({r[m]['low']:.4g} to {r[m]['high']:.4g})" if m in r else "" for r in rows.values()
        ]
        real = f"{some['reference']:.4g}" if some["is"] != "mean image" else ""
        better = "near 1" if m.startswith("memorisation") else some["better"]
        lines.append(f"| {m} | {better} | {some['baseline']:.4g} | " + " | ".join(cells) + f" | {real} |")
    return "\n".join(lines)


def fill(path: Path, name: str, content: str) -> str:
    """The file's text with the block between `<!-- name` and `<!-- /name` replaced."""
    text = path.read_text()
    pattern = rf"(<!-- {name}:.*?-->\n).*?(<!-- /{name} -->)"
    return re.sub(pattern, lambda m: m[1] + content + "\n" + m[2], text, flags=re.DOTALL)


def main() -> int:
    stale = []
    blocks = [
        ("README.md", "flagship", flagship.table("mnist-5", tuple(flagship.PARENTS), FIRST_SCREEN)),
        ("README.md", "models", models_table()),
        ("docs/python.md", "names", names_table()),
        ("docs/cli.md", "verbs", verbs_table()),
        ("docs/cli.md", "train", train_table()),
        ("docs/results.md", "reference", reference.table()),
        ("docs/results.md", "zoo", zoo.table()),
        ("docs/results.md", "compare", compared()),
        ("docs/results.md", "modes", modes.table()),
        ("docs/runs.md", "precision", precision.table()),
        ("docs/speed.md", "speed", bench.table()),
        ("docs/speed.md", "profile", bench.profile()),
        ("docs/speed.md", "startup", startup.table()),
        ("docs/speed.md", "growth", growth.table()),
        ("docs/doctor.md", "rules", rules_table()),
        ("docs/doctor.md", "doctor", doctor.table("check")),
        *[("docs/models/vae-gan.md", name, flagship.table(name)) for name in flagship.TABLES],
        ("docs/models/vae.md", "density", density.table()),
        ("README.md", "uses", uses.table()),
        ("docs/tasks/edit.md", "edit", edit.table()),
        ("docs/tasks/augment.md", "augment", augment.table()),
        ("docs/tasks/detect.md", "detect", detect.table()),
        ("docs/tasks/classify.md", "classify", classify.table()),
        *[("docs/tasks/compress.md", name, compress.table(name)) for name in compress.MODELS],
        ("docs/tasks/critic-loss.md", "critic-loss", critic_loss.table()),
        ("docs/tasks/few-labels.md", "fewlabels", fewlabels.table()),
        ("docs/tasks/finetune.md", "finetune", finetune.table()),
        ("docs/presets.md", "presets", preset_results.table()),
        *[(f"docs/models/{name}.md", "zoo", zoo.page(name)) for name in {r["model"]: 0 for r in zoo.kept().values()}],
        ("docs/tasks/restore.md", "restore-ways", restore_ways.table()),
        *[(file, "restore", restore.table()) for file in ("docs/tasks/restore.md", "docs/models/restorer.md")],
        *[(f"docs/models/{name}.md", "study", studies.table(study)) for study, name in studies.PAGES.items()],
    ]
    for file, name, content in blocks:
        path = ROOT / file
        text = fill(path, name, content)
        if f"<!-- {name}:" not in text:
            raise SystemExit(f"{file} has no block for {name}")
        if text != path.read_text():
            stale.append(file)
            if "--check" not in sys.argv:
                path.write_text(text)
    print("out of date: " + ", ".join(stale) if stale else "up to date")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
