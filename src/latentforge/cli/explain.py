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

SHAPE = (1, 28, 28)  # unless told otherwise; sizes, and in some families weights and games, follow from it


class Explained(Models):
    """`explain` with the models as its commands, whose flags are the model's own."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        row = registry.entry(name)
        rows = options(registry.model_class(name), f"Model ({name})", {"image_shape"})
        preset = option("preset", str, None, "start from a preset, for example mnist/larsen; flags override it", "Run")
        images = [
            option("image_size", str, "28", "size of the images: 64 or 30x46 (height x width)", "Images"),
            option("channels", int, 1, "1 (grey), 2, 3 (RGB) or 4 (RGBA) channels", "Images"),
        ]

        def go(
            preset: str | None = None, image_size: str | None = None, channels: int | None = None, **typed: Any
        ) -> None:
            from latentforge.data.dataset import check_channels, size_of

            check_channels(channels)
            start = {} if preset is None else presets.load(preset)
            if start.get("model", name) != name:
                raise InputError(f"preset {preset} is for {start['model']}: latentforge explain {start['model']} ...")
            chosen = {k: v for k, v in typed.items() if v is not None}
            shape = (channels or SHAPE[0], *(size_of(image_size) or SHAPE[1:]))
            print(explain(name, {**start.get("arguments", {}), **chosen}, shape))

        return Sectioned(name, params=[*rows, *images, preset], callback=go, help=f"{row.summary}\n\n{row.paper}")


def explain(name: str, arguments: dict[str, Any], shape: tuple[int, int, int] = SHAPE) -> str:
    """What the model does in one round, what each player minimises and how it steps, and the departures from the paper."""
    from latentforge.duel import Duel

    row, cls = registry.entry(name), registry.model_class(name)
    if "num_classes" in registry.arguments(cls) and not arguments.get("descriptor_mean"):
        arguments = {"num_classes": 10, **arguments}
    model = registry.create(name, image_shape=shape, **arguments)
    later = ", ".join(f"{share:.0%}" for share in model.begins)
    title = f"One round of each stage (the next begins at {later} of the budget)" if later else "One round"
    c, h, w = shape
    built = f"for images of {h} x {w}, {c} channel{'s' if c > 1 else ''}"
    lines = [f"{name}: {row.summary}", row.paper, built, "", title]
    seats, players = model.seats(), model.players()
    for number, (move, times) in enumerate(((k, len([*g])) for k, g in itertools.groupby(model.objective())), 1):
        names = list(dict.fromkeys(term.player for term in move))
        together = f"{', '.join(names[:-1])} and {names[-1]} together" if len(names) > 1 else names[0]
        often = f", {times} times in turn" if times > 1 else ""
        begin = min(seats[player].span[0] for player in names) if model.begins else 0.0
        lines.append(f"  {number}. {together}{often}{f' (from {begin:.0%} of the budget)' if begin else ''}")
        for player in names:
            terms = [term for term in move if term.player == player]
            for i, term in enumerate(terms):
                weight = "" if term.weight == 1 else f"{term.weight:g} * "
                sign = "+" if i else " "
                lines.append(
                    f"       {player if not i else '':<12} {'' if i else 'minimises':<9} {sign} {weight}{term.formula}"
                )
    base = registry.arguments(Duel)
    rules = (
        {k: v for k, v in model.args.items() if k in base and v != base[k].default} if isinstance(model, Duel) else {}
    )
    if not any(model.args.get(k) for k in ("r1", "r2", "gradient_penalty")):
        rules.pop("penalty_every", None)  # of no penalty
    if rules:
        helps = registry.argument_help(Duel)
        lines += ["", "Options of the critic that differ from the plain GAN's"]
        lines += [f"  --{k.replace('_', '-')} {v}: {helps[k]}" for k, v in rules.items()]
    lines += ["", "Steps"]
    owner: dict[frozenset[int], str] = {}
    for player, seat in seats.items():
        weights = {id(p): p.numel() for m in players[player] for p in m.parameters()}
        first = owner.setdefault(frozenset(weights), player)
        count = f"{sum(weights.values()):,} parameters" if first == player else f"the weights of {first}"
        betas = f", betas {seat.betas[0]:g} {seat.betas[1]:g}" if seat.optimizer.startswith("adam") else ""
        lines.append(f"  {player:<12} {seat.optimizer}, rate {seat.lr:g}{betas}; {count}")
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
    help="Show the losses of a model, term by term: latentforge explain vae-gan --loss hinge. Every model has its own "
    "flags: latentforge explain MODEL --help.",
)
