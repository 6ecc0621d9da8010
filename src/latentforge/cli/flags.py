"""Command-line flags from typed constructors: one option per parameter, its help from the docstring's `Args:`."""

from __future__ import annotations

import difflib
import types
import typing
from pathlib import Path
from typing import Any

import click

from latentforge.files import place
from latentforge.registry import argument_help, arguments


class Numbers(click.ParamType):
    """A tuple of numbers, typed as 512,256."""

    def __init__(self, kind: type):
        self.kind, self.name = kind, f"{kind.__name__},..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple:
        if isinstance(value, tuple | list):
            return tuple(value)
        try:
            return tuple(self.kind(v) for v in str(value).split(",") if v.strip())
        except ValueError:
            self.fail(f"'{value}' is not a list of numbers like 512,256", param, ctx)


class Place(click.Path):
    """A path. ~ is the home folder where the shell leaves it alone too, as in --out=~/x.png."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        return place(str(super().convert(value, param, ctx)))


def option(name: str, annotation: Any, default: Any, text: str, section: str) -> click.Option:
    """The click option of one parameter. Its click default is None, so that what was typed can be told apart."""
    kinds = [a for a in typing.get_args(annotation) if a is not type(None)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and len(kinds) < len(
        typing.get_args(annotation)
    ):
        annotation = kinds[0]
    if default is not False and default not in (None, "", ()) and "default:" not in text:
        text += f"  [{','.join(map(str, default)) if isinstance(default, tuple) else default}]"
    flag = "--" + name.replace("_", "-")
    if annotation is bool:
        pair = f"{flag}/--no-{flag[2:]}" if default else flag
        out = click.Option([pair, name], type=bool, default=None, help=text, is_flag=True)
    elif typing.get_origin(annotation) is tuple:
        out = click.Option([flag, name], type=Numbers(typing.get_args(annotation)[0]), default=None, help=text)
    elif typing.get_origin(annotation) is typing.Literal:
        out = click.Option([flag, name], type=click.Choice(list(typing.get_args(annotation))), default=None, help=text)
    else:
        kind = annotation if annotation in (int, float, str) else str
        out = click.Option([flag, name], type=kind, default=None, help=text)
    out.section = section  # type: ignore[attr-defined]
    return out


def options(function: Any, section: str, leave_out: set[str]) -> list[click.Option]:
    """The options of every parameter of `function`, those in `leave_out` aside."""
    helps = argument_help(function)
    return [
        option(k, p.annotation, p.default, helps.get(k, ""), section)
        for k, p in arguments(function).items()
        if k not in leave_out
    ]


class Sectioned(click.Command):
    """A command whose help groups its options, and whose errors suggest the right flag."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list] = {}
        for p in self.get_params(ctx):
            record = p.get_help_record(ctx)
            if record:
                sections.setdefault(getattr(p, "section", "Options"), []).append(record)
        for name, rows in sections.items():
            with formatter.section(name):
                formatter.write_dl(rows)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            flags = [f for p in self.get_params(ctx) for f in p.opts if f.startswith("--")]
            near = difflib.get_close_matches(error.option_name, flags, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"there is no flag {error.option_name}.{hint}", ctx) from None
