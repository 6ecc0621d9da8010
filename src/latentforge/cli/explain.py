"""`latentforge explain MODEL`: the objective of a configuration, term by term."""

from __future__ import annotations

import inspect
import itertools
import re
import sys
from typing import Any

import click

from latentforge import presets, registry
from latentforge.cli.flags import Sectioned, option, options
from latentforge.cli.train import Models
from latentforge.errors import InputError

SHAPE = (1, 28, 28)  # of the images the model is built for; no formula depends on it


class Explained(Models):
    """`explain` with the models as its commands, whose flags are the model's own."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        row = registry.entry(name)
        rows = options(registry.model_class(name), f"Model ({name})", {"image_shape"})
        preset = option("preset", str, None, "start from a preset, for example mnist/larsen; flags override it", "Run")

        def go(preset: str | None = None, **typed: Any) -> None:
            start = {} if preset is None else presets.load(preset)
            if start.get("model", name) != name:
                raise InputError(f"preset {preset} is for {start['model']}: latentforge explain {start['model']} ...")
            chosen = {k: v for k, v in typed.items() if v is not None}
            print(explain(name, {**start.get("arguments", {}), **chosen}))

        return Sectioned(name, params=[*rows, preset], callback=go, help=f"{row.summary}\n\n{row.paper}")


def explain(name: str, arguments: dict[str, Any]) -> str:
    """What the model does in one round, who descends what, how each player steps, and the departures from the paper."""
    from latentforge.duel import Duel

    row, cls = registry.entry(name), registry.model_class(name)
    if "num_classes" in registry.arguments(cls) and not arguments.get("descriptor_mean"):
        arguments = {"num_classes": 10, **arguments}
    model = registry.create(name, image_shape=SHAPE, **arguments)
    later = ", ".join(f"{share:.0%}" for share in model.begins)
    title = f"One round of each stage (the next begins at {later} of the budget)" if later else "One round"
    lines = [f"{name}: {row.summary}", row.paper, "", title]
    for number, (move, times) in enumerate(((k, len([*g])) for k, g in itertools.groupby(model.objective())), 1):
        names = list(dict.fromkeys(term.player for term in move))
        together = f"{', '.join(names[:-1])} and {names[-1]} together" if len(names) > 1 else names[0]
        lines.append(f"  {number}. {together}{f', {times} times in turn' if times > 1 else ''}")
        for player in names:
            terms = [term for term in move if term.player == player]
            for i, term in enumerate(terms):
                weight = "" if term.weight == 1 else f"{term.weight:g} * "
                sign = "+" if i else " "
                lines.append(
                    f"       {player if not i else '':<12} {'descends' if not i else '':<8} {sign} {weight}{term.formula}"
                )
    base = registry.arguments(Duel)
    rules = (
        {k: v for k, v in model.args.items() if k in base and v != base[k].default} if isinstance(model, Duel) else {}
    )
    if rules:
        helps = registry.argument_help(Duel)
        lines += ["", "Rules of the duel that differ from the plain one"]
        lines += [f"  --{k.replace('_', '-')} {v}: {helps[k]}" for k, v in rules.items()]
    lines += ["", "Steps"]
    for player, seat in model.seats().items():
        count = sum(p.numel() for m in model.players()[player] for p in m.parameters())
        betas = f", betas {seat.betas[0]:g} {seat.betas[1]:g}" if seat.optimizer.startswith("adam") else ""
        lines.append(f"  {player:<12} {seat.optimizer}, rate {seat.lr:g}{betas}; {count:,} parameters")
    if isinstance(model, Duel) and "D(" in "".join(lines):
        lines += ["", "D is the critic's logit, s the sigmoid."]
    module = sys.modules[cls.__module__]
    text = re.search(r"Departures: (.*?)(?:\n\n|$)", inspect.cleandoc(module.__doc__ or ""), re.DOTALL)
    if text:
        lines += ["", "Departures from the paper", "  " + " ".join(text[1].split())]
    return "\n".join(lines)


command = Explained(
    "explain",
    subcommand_metavar="MODEL [FLAGS]...",
    help="Show what a model descends, term by term: latentforge explain vae-gan --loss hinge. Every model has its own "
    "flags: latentforge explain MODEL --help.",
)
