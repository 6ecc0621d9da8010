"""Models on disk: `model.safetensors` + `config.json` + a card. Loading runs no code."""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from latentforge import registry, samplers
from latentforge._version import __version__
from latentforge.clock import seeded
from latentforge.data.decode import reason
from latentforge.errors import InputError, RunError, unreadable
from latentforge.files import apart, atomic, place, write_text
from latentforge.game import Game
from latentforge.limits import check
from latentforge.run import FORMAT, Run

NUMPY = re.compile(r"np\.\w+\((.*?)\)")  # as its numbers show themselves: np.int64(3)
CARD = """---
library_name: latentforge
tags: [{kind}, {name}, {tag}]
---
# {name}

{about}

```python
import latentforge as lf

model = lf.load("PATH")
{use}
```

| setting | value |
| --- | --- |
{rows}

Trained with Latentforge {version} on: {data}
"""


def model_config(model: Game) -> dict[str, Any]:
    """What it takes to build the model again, its weights aside."""
    sampler = model.sampler.config if model.sampler is not None else None
    name = registry.named(model, "it could not be loaded again")
    return {
        "latentforge": __version__, "format": FORMAT, "model": name, **registry.home(model),
        "arguments": plain(model.args), "sampler": sampler, "trained_on": model.trained_on,
        "data_fingerprint": model.data_fingerprint, "classes": model.classes, "part_size": model.part_size,
    }  # fmt: skip


def plain(value: Any) -> Any:
    """Tuples to lists and numbers of numpy to Python's, as JSON and YAML have them."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return [plain(v) for v in value] if isinstance(value, tuple | list) else value


def need_alike(model: Game, purpose: str) -> None:
    """InputError unless the model's name and arguments build another like it: no more is kept of it but its weights."""
    name, own = registry.named(model, purpose), type(model).__name__
    for key, value in model.args.items():
        if written(value) is None:
            raise InputError(
                f"{own}: the argument {key} is a {type(value).__name__}, which no configuration holds, so {purpose}; "
                "take numbers and texts, and build networks in the constructor."
            )
    try:
        with seeded(0):
            twin = registry.create(name, **json.loads(json.dumps(plain(model.args))))
            same = built(twin) == built(model)
    except Exception as error:  # a constructor of the user's own may raise any
        raise InputError(
            f"{own} cannot be built again from its arguments, so {purpose}: {reason(error)}; its constructor must take "
            "each of them."
        ) from None
    for key in (k for k in model.args if not hasattr(Game, k)):  # `classes` and the like are set in training
        now, then = (written(getattr(m, key, None)) for m in (model, twin))
        if now != then and None not in (now, then):
            raise InputError(
                f"{key} of this {own} is {now}, but it was created with {then}, which is what would be built again; "
                f"create it with {key}={now}."
            )
    if not same:
        raise InputError(
            f"the networks of this {own} are not those that its arguments build, so {purpose}; write a class that "
            "builds them, with @lf.register(NAME, KIND) (docs/reading-order.md)."
        )


def built(model: Game) -> tuple[dict[str, Any], dict[str, Any]]:
    """Kind and settings of each module, and the shapes in the state; without the sampler, which is fitted."""
    modules = {k: m for k, m in model.named_modules() if k.split(".")[0] != "sampler"}
    told = {k: NUMPY.sub(r"\1", m.extra_repr()) for k, m in modules.items()}
    shapes = {k: getattr(v, "shape", None) for k, v in model.state_dict().items() if k.split(".")[0] != "sampler"}
    return {k: (type(m).__name__, told[k]) for k, m in modules.items()}, shapes


def written(value: Any) -> str | None:
    """A value as JSON has it; None where it has no word for it."""
    try:
        return json.dumps(plain(value))
    except (TypeError, ValueError):
        return None


def save_model(model: Game, directory: str | Path) -> None:
    """Write the model into `directory`, each file at once or not at all."""
    directory = place(directory)
    config, text = json.dumps(model_config(model), indent=2) + "\n", card(model)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; give a directory to write the model to.")
    fresh = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with atomic(directory / "model.safetensors") as part:
            save_file(apart(model.state_dict()), part)
        write_text(directory / "config.json", config)
        write_text(directory / "README.md", text)
    except (OSError, safetensors.SafetensorError) as error:
        if fresh:
            shutil.rmtree(directory, ignore_errors=True)
        raise InputError(f"{directory} cannot be written ({reason(error)}); choose another place.") from None


def need_finite(model: Game) -> None:
    """RunError where a weight, or a statistic of batch norm, is not a number. Other buffers may be infinite on purpose."""
    norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    if not all(v.isfinite().all() for v in (*model.parameters(), *(b for m in norms for b in m.buffers()))):
        raise RunError("the weights are no longer finite; lower --lr, set --clip 1, or use --precision fp32.")


def save_result(run: Run, model: Game, numbers: dict[str, Any]) -> None:
    """The end of a run: `metrics.json` and `model/`, which appears whole. RunError where the disk is full."""
    model.data_fingerprint = (run.config.get("images") or {}).get("fingerprint")
    numbers |= {"peak_memory_mb": peak_memory()}
    numbers |= {"sampler_scores": model.sampler_scores} if model.sampler_scores else {}
    try:
        with run.adding_metrics():
            write_text(run.path / "metrics.json", json.dumps({"training": numbers}, indent=2) + "\n")
        with atomic(run.path / "model") as part:
            save_model(model, part)
    except (OSError, InputError) as error:
        remedy = f"make room and run '{run.goes_on_by()}'"
        raise RunError(f"the model could not be written ({error}); {remedy}.") from None


def peak_memory() -> int | None:
    """The most memory this process has held, in MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def card(model: Game) -> str:
    row = registry.entry(model.name)
    c, h, w = model.image_shape
    rows = "\n".join(f"| `{k}` | {v} |" for k, v in plain(model.args).items())
    data = model.trained_on or "not recorded"
    about = f"{row.summary} ({row.paper})" if row.paper else row.summary
    tag, use = "image-generation", f"images = model.sample(16)  # (16, {c}, {h}, {w}) in [0, 1]"
    if model.has_restorer:
        tag, use = "image-to-image", f"images = lf.restore(model, spoilt)  # (N, {c}, H, W) in [0, 1]"
    elif not model.can_sample:
        tag, use = "feature-extraction", f"codes, _ = lf.embed(model, images)  # of (N, {c}, {h}, {w}) in [0, 1]"
    return CARD.format(name=model.name, kind=row.kind, about=about, rows=rows, tag=tag, use=use, version=__version__,
                       data=data)  # fmt: skip


def rebuild(
    name: str, arguments: dict[str, Any], sampler: dict[str, Any] | None, tensors: dict, where: str, own: str | None
) -> Game:  # fmt: skip
    """A model in eval mode from its config and tensors; `own`: its class, where that is the user's."""
    try:
        registry.entry(name, own)
        check(registry.model_class(name), arguments)
        with seeded(0), within(tensors):  # its first weights go at once: the caller's random numbers are left alone
            model = registry.create(name, **arguments)
        if sampler is not None:
            model.sampler = samplers.build(sampler)
        model.load_state_dict(tensors)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}: the weights do not fit the config ({reason(error)}).") from None
    model.loaded_args = arguments
    return model.eval().to(memory_format=torch.channels_last)  # the layout it was trained in: bit-identical samples


@contextmanager
def within(tensors: dict[str, Tensor]) -> Iterator[None]:
    """Inside the block ValueError for a layer of more numbers than all of `tensors`, before they are drawn: a config of a few
    bytes could take all memory."""
    most, here = sum(v.numel() for v in tensors.values()), threading.get_ident()

    def look(module: nn.Module, name: str, weights: Tensor) -> None:
        if weights.numel() > most and threading.get_ident() == here:
            raise ValueError(f"a layer of {weights.numel():,} numbers, and the weights have {most:,}")

    hook = register_module_parameter_registration_hook(look)
    try:
        yield
    finally:
        hook.remove()


def other_version(config: dict[str, Any]) -> str:
    """Which version wrote a run or a model, where it is not this one: settings come and go."""
    wrote = config.get("latentforge", __version__)
    return "" if wrote == __version__ else f" (written by Latentforge {wrote}, this is {__version__})"


def load_directory(path: Path, remedy: str = "export the model again") -> Game:
    """A model from a directory written by `save_model`."""
    missing = [name for name in ("config.json", "model.safetensors") if not (path / name).is_file()]
    if missing:
        raise InputError(f"{path} is not a saved model: it has no {' and no '.join(missing)}.")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        # safetensors says of all that it cannot open that it is not there
        open(path / "model.safetensors", "rb").close()
        tensors = load_file(path / "model.safetensors")
        name, arguments, version = config["model"], dict(config["arguments"]), int(config["format"])
    except OSError as error:
        raise unreadable(error.filename or path, error) from None
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError):
        raise InputError(f"{path}: config.json or model.safetensors is damaged; {remedy}.") from None
    if version > FORMAT:
        raise InputError(
            f"{path} was written by a newer Latentforge ({config.get('latentforge')}); upgrade to load it."
        )
    where = f"{path}{other_version(config)}"
    model = rebuild(name, arguments, config.get("sampler"), tensors, where, config.get("class"))
    model.trained_on, model.part_size, model.classes = (config.get(k) for k in ("trained_on", "part_size", "classes"))
    model.data_fingerprint = config.get("data_fingerprint")
    return model


def load(path: str | Path) -> Game:
    """A trained model, in eval mode, from a run directory or an exported one. An unfinished run is loaded from its latest
    checkpoint, with the averaged weights."""
    path = place(path)
    if (path / "config.json").is_file():
        return load_directory(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a run directory or an exported model.")
    run = Run.open(path)
    if run.finished:
        return load_directory(path / "model", f"delete it, and '{run.goes_on_by()}' writes it anew")
    found = run.load_checkpoint()
    if found is None:
        raise InputError(f"{path} has neither a model nor a checkpoint yet; train on with '{run.goes_on_by()}'.")
    tensors, state, _ = found
    prefix = "ema/" if any(k.startswith("ema/") for k in tensors) else "model/"
    weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    weights |= {k.replace("/", ".", 1): v for k, v in tensors.items() if k.startswith("sampler/")}
    settings = dict(run.config["model"])
    where = f"{path}{other_version(run.config)}"
    own = run.config.get("class")
    model = rebuild(settings.pop("name"), settings, state.get("sampler"), weights, where, own)
    images = run.config.get("images") or {}
    model.part_size, model.trained_on, model.classes = state.get("part_size"), images.get("from"), images.get("classes")
    model.data_fingerprint = images.get("fingerprint")
    return model


def load_pretrained(name: str | Path, cls: type[Game]) -> Game:
    """`Game.from_pretrained`: a local directory, else a hub repository."""
    if place(name).exists():
        model = load(name)
    else:
        from huggingface_hub import snapshot_download

        try:
            there = snapshot_download(str(name), allow_patterns=["config.json", "model.safetensors"])
        except Exception as error:  # the hub client raises many kinds; each means the same to the user
            raise InputError(
                f"'{name}' is neither a directory here nor a hub repository that can be read: {reason(error)}"
            ) from None
        try:
            model = load_directory(Path(there))
        except InputError as error:
            raise InputError(f"'{name}' on the hub: {error}") from None
    if not isinstance(model, cls):
        raise InputError(f"{name} holds a {model.name}, not a {cls.__name__}; load it with lf.load.")
    return model


def push_to_hub(model: Game, repo_id: str, **options: Any) -> str:
    """Upload the saved model; `options` go to `HfApi.upload_folder`."""
    import tempfile

    from huggingface_hub import HfApi

    need_alike(model, "it could not be loaded again")
    api = HfApi()
    api.create_repo(repo_id, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, folder)
        page = Path(folder) / "README.md"
        there = f'lf.Game.from_pretrained("{repo_id}")'
        page.write_text(page.read_text(encoding="utf-8").replace('lf.load("PATH")', there), encoding="utf-8")
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, **options))


def pick_device(name: str | torch.device) -> torch.device:
    """`auto` is CUDA, then Apple's MPS, then the CPU; InputError where the named one is missing."""
    name = str(name)  # or a torch.device
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(k for k, ok in have.items() if ok))
    kind, colon, index = name.partition(":")
    most = torch.cuda.device_count() if kind == "cuda" else 1
    if not have.get(kind) or (colon and not (index.isdecimal() and int(index) < most)):
        here = ", ".join(k for k, ok in have.items() if ok)
        raise InputError(f"device '{name}' is not available here; use one of: auto, {here}.")
    return torch.device(name)


def pick_precision(device: torch.device, half_pays: bool) -> str:
    """bf16 on GPUs of CUDA that compute in it, and where it pays on processors that do; fp32 elsewhere."""
    if device.type == "cuda":  # before Ampere it is emulated, many times slower
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if device.type == "cpu" and computes_in_bf16() and half_pays else "fp32"


def computes_in_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; where it does not, half precision is many times slower."""
    known: dict = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.11 does not say
    return any(map(known.get, ("avx512_bf16", "amx_bf16")))
