"""What evolves while a model trains, as tensors and numbers, and back: what a checkpoint holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from latentforge.files import apart
from latentforge.optim import pack, unpack
from latentforge.samplers import build

if TYPE_CHECKING:
    from latentforge.train import Trainer


def state_of(trainer: Trainer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors on the CPU, numbers) of a trainer between two rounds."""
    model, t, sampler = trainer.model, trainer.clocks[0], trainer.model.sampler
    tensors = {f"model/{k}": v for k, v in model.state_dict().items() if not k.startswith("sampler.")}
    if trainer.average is not model:
        tensors |= {f"ema/{k}": v for k, v in trainer.average.state_dict().items() if not k.startswith("sampler.")}
    if sampler is not None:
        tensors |= {f"sampler/{k}": v for k, v in sampler.state_dict().items()}
    packed, scalars = pack(trainer.optimizers)
    state = {
        "round": t.round, "examples": t.examples, "progress": t.progress, "seconds": trainer.seconds,
        "bad_steps": trainer.bad_steps, "bad_in_a_row": trainer.bad_in_a_row, "optimizers": scalars,
        "fingerprint": trainer.data.fingerprint, "stage": t.stage, "sampler": None if sampler is None else sampler.config,
        "part_size": model.part_size, "sampler_chosen": model.sampler_chosen,
    }  # fmt: skip
    return apart(tensors | packed), state


def take_up(trainer: Trainer, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Give a trainer what `state_of` took of another one. InputError where the images are others."""
    trainer.data.need(state["fingerprint"])
    for prefix, module in (("model/", trainer.model), ("ema/", trainer.average)):
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if part:
            module.load_state_dict(part)
    unpack(trainer.optimizers, tensors, state["optimizers"])
    if state["sampler"]:
        sampler: Any = build(state["sampler"]).to(trainer.device)
        sampler.load_state_dict({k.removeprefix("sampler/"): v for k, v in tensors.items() if k.startswith("sampler/")})
        trainer.model.sampler = trainer.average.sampler = sampler
        trainer.model.sampler_scores = trainer.average.sampler_scores = dict(sampler.scores)
    trainer.model.sampler_chosen = trainer.average.sampler_chosen = state["sampler_chosen"]
    trainer.seconds, trainer.bad_steps = state["seconds"], state["bad_steps"]
    trainer.bad_in_a_row = state["bad_in_a_row"]
    for c, s in zip(trainer.clocks, trainer.streams, strict=True):
        c.round, c.examples, c.stage = state["round"], state["examples"], state["stage"]
        s.drawn = state["examples"]
        share = c.examples / trainer.examples if trainer.examples else state["seconds"] / (60 * (trainer.minutes or 1))
        c.progress = min(1.0, share)
    trainer.preview_progress = trainer.clocks[0].progress
