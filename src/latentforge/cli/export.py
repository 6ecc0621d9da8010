"""`latentforge export RUN DIR`."""

from __future__ import annotations

from pathlib import Path

import click

from latentforge.cli.flags import Place


@click.command("export")
@click.argument("run", type=Place())
@click.argument("directory", type=Place())
def command(run: Path, directory: Path) -> None:
    """Write the model alone (model.safetensors, config.json, README.md); `lf.load(DIRECTORY)` opens it."""
    import latentforge as lf
    from latentforge.errors import InputError
    from latentforge.files import contents

    if directory.exists() and (not directory.is_dir() or any(contents(directory))):
        raise InputError(f"{directory} exists and is not an empty directory; choose another.")
    lf.load(run).save_pretrained(str(directory))
    print(f"{directory}: model.safetensors, config.json, README.md")
