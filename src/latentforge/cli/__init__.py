"""The command `latentforge`. Verbs load when they are used, so that help needs no torch.

Exit codes: 0 done, 1 the run failed, 2 bad usage or bad input, 130 interrupted after a checkpoint.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from importlib import import_module

import click

from latentforge._version import __version__
from latentforge.errors import InputError, Interrupted, RunError, suggest
from latentforge.files import WINDOWS

VERBS = {
    "models": "List the models, or show one with its arguments",
    "explain": "Show the losses of a model, term by term, and where it departs from its paper",
    "data": "Show which data sets are here; preview one",
    "train": "Train a model on images",
    "resume": "Continue a run from its last checkpoint",
    "sample": "Draw new images from a trained model",
    "reconstruct": "Encode images and decode them again",
    "interpolate": "Interpolate between images in latent space",
    "edit": "Change an attribute of images, or move along directions of latent space",
    "embed": "Write the codes of images, or show their nearest neighbours",
    "augment": "Export labelled samples, or measure whether they help a classifier",
    "detect": "Find images unlike those a model was trained on",
    "classify": "Classify images by Bayes' rule, and reject those of no known class",
    "compress": "Write images as a small file of codes",
    "decompress": "Write the images of a file that compress wrote",
    "restore": "Denoise, deblur, enlarge, complete or enhance images",
    "finetune": "Start a classifier from a trained model, and measure what that gains",
    "evaluate": "Measure a trained model on held-out images",
    "compare": "Train several models alike and put them side by side",
    "report": "Write the HTML report of a run again",
    "export": "Write the model alone, ready to share",
}


class Verbs(click.Group):
    """The verbs, each in a file of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            raise click.UsageError(f"there is no command '{name}'.{suggest(name, VERBS)}")
        return import_module(f"latentforge.cli.{name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="latentforge")
def root() -> None:
    """Train, compare and apply autoencoders, VAEs, GANs and their hybrids.

    \b
    latentforge train vae-gan --data path/to/images --minutes 10
    latentforge sample runs/vae-gan -n 64 --out grid.png
    """


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors are one line on stderr."""
    try:
        root.main(arguments, prog_name="latentforge", standalone_mode=False)
        return 0
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.ClickException as error:
        ctx = getattr(error, "ctx", None)
        where = f" (see '{ctx.command_path} --help')" if ctx else ""
        return fail(" ".join(error.format_message().split()) + where, 2)
    except InputError as error:
        return fail(str(error), 2)
    except RunError as error:
        return fail(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        return fail("interrupted", 130)
    except OSError as error:  # a full disk where nothing else took care of it
        if WINDOWS and error.errno == errno.EINVAL and not flushed():  # so a closed pipe is called there
            return 1
        where = error.filename or ("the disk" if error.errno else "")
        return fail(f"{where}: {error.strerror or error}".removeprefix(": "), 1)
    except Interrupted as error:
        return fail(str(error), 130)
    except (MemoryError, RuntimeError) as error:
        from latentforge.allocator import is_want_of_memory

        if isinstance(error, RuntimeError) and not is_want_of_memory(error):
            raise
        return fail("this takes more memory than there is; ask for fewer or smaller images", 1)


def fail(text: str, code: int) -> int:
    print(f"latentforge: {text}", file=sys.stderr)
    return code


def flushed() -> bool:
    """Write out what was printed; False where its reader, `head` perhaps, has seen enough."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not (isinstance(error, BrokenPipeError) or (WINDOWS and error.errno == errno.EINVAL)):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def entry_point() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that a terminal cannot show must not end finished work
        sys.stdout.reconfigure(errors="backslashreplace")
    code = main()
    try:
        flushed()
    except OSError as error:  # a full disk
        code = code or fail(f"what was printed cannot be written ({error.strerror})", 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
