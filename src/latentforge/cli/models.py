"""`latentforge models`: the registered models, or one with its arguments."""

from __future__ import annotations

import json

import click

from latentforge import registry
from latentforge.cli.tables import print_table
from latentforge.errors import InputError


@click.command("models")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.option("--presets", "show_presets", is_flag=True, help="list the presets instead")
def command(name: str | None, as_json: bool, show_presets: bool) -> None:
    """List the models, or show one with its arguments."""
    if show_presets and name is not None:
        raise InputError("--presets lists those of all models; leave out the model.")
    if show_presets:
        from latentforge import presets

        rows = [{"preset": p, "about": presets.load(p)["about"]} for p in presets.list_presets()]
        print_table(rows, as_json)
    elif name is None:
        kinds = list(registry.KINDS)
        models = sorted(registry.MODELS.items(), key=lambda item: kinds.index(item[1].kind))
        rows = [{"model": k, "kind": v.kind, "what it is": v.summary, "paper": v.paper} for k, v in models]
        if as_json:
            print_table(rows, True)
            return
        width = max(len(r["model"]) for r in rows)
        for kind, title in registry.KINDS.items():
            print(f"\n{title}")
            for r in (r for r in rows if r["kind"] == kind):
                print(f"  {r['model']:<{width}}  {r['what it is']}\n  {'':<{width}}  {r['paper']}")
    else:
        about = registry.describe(name)
        if as_json:
            print(json.dumps(about, indent=2, default=str))
            return
        print(f"{about['name']} ({about['kind']}): {about['summary']}\n{about['paper']}\n")
        rows = [{"flag": "--" + k.replace("_", "-"), "default": v["default"], "meaning": v["help"]}
                for k, v in about["arguments"].items() if k != "image_shape"]  # fmt: skip
        print_table(rows, False)
