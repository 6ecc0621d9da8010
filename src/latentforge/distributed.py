"""Several processes under `torchrun`: each plays its share of every batch, and all step together.

Gradients are averaged by hand, one flat buffer per player, because `torch.autograd.grad` bypasses the hooks of
DistributedDataParallel and would let processes drift apart.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from latentforge.errors import InputError, RunError
from latentforge.files import WINDOWS, place

T = TypeVar("T")
R = TypeVar("R")


def alone_here() -> bool:
    """Whether `torchrun` has started no other process on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) == 1


def rank() -> int:
    """This process's number under `torchrun`, 0 where it runs alone."""
    return int(os.environ.get("RANK", 0))


def start() -> tuple[int, int]:
    """(rank, number of processes), joining the group that `torchrun` announces. What processes agree on goes over the
    processors, so that no GPU waits for it; gradients go from device to device. InputError on Windows."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        if WINDOWS:  # which removes no file that is mapped, as the one of the images is
            raise InputError("several processes train together on Linux and macOS only; start one, without torchrun.")
        store, number, world = next(rendezvous("env://"))
        # torchrun keeps its store when it starts processes again, and in it the addresses of those that died
        store = dist.PrefixStore(f"attempt-{attempt()}", store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=world)
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def begun(out: str | Path) -> bool:
    """Whether `torchrun` started these processes again, after one of them died, and the run directory `out` was begun
    before: what the first of them sees, on all."""
    if attempt() == 0:
        return False
    return bool(same(float((place(out) / "config.yaml").is_file()), start()[1]))


def attempt() -> int:
    """How often `torchrun` has started these processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def may_restart() -> bool:
    """Whether `torchrun` was told to start again when a process dies (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


def parts_of(batch_size: int, accumulate: int, world: int) -> int:
    """The parts a batch is cut into, over accumulation and processes; InputError where they cannot be equal."""
    parts = accumulate * world
    if batch_size < 1 or batch_size % parts:
        raise InputError(
            f"batch size {batch_size} cannot be cut into {parts} equal parts; choose a multiple of {parts}."
        )
    return parts


def local_device(device: torch.device, chosen: bool = False) -> torch.device:
    """This process's own GPU where there are several; InputError where it is to share one. Nothing averages gradients on
    Apple's: where the device was `chosen` for the user the processor takes its place, else it is an InputError."""
    if device.type == "mps" and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        if not chosen:
            raise InputError("several processes cannot train on Apple's GPU; give --device cpu, or one process.")
        return torch.device("cpu")
    if device.type == "cuda" and device.index is not None and not alone_here():
        raise InputError(
            f"several processes cannot train on {device}; give --device cuda, which gives each its own GPU."
        )
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        number, have = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= have:
            raise InputError(
                f"process {number} has no GPU of its own: this machine has {have}; start {have} processes here, or give "
                "--device cpu."
            )
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    return device


def average_gradients(
    gradients: dict[str, list[Tensor | None]] | None, parameters: dict[str, list[torch.nn.Parameter]], world: int
) -> dict[str, list[Tensor | None]] | None:
    """The gradients averaged over processes; RunError where processes made different moves."""
    names = ",".join(gradients or [])
    stamp = float(zlib.crc32(names.encode()) % 2**20)
    # the move, and which of all parameters it has a gradient for: from processor to processor, as no GPU need wait for it
    present = [[g is not None for g in (gradients or {}).get(k, [None] * len(ps))] for k, ps in parameters.items()]
    told = torch.tensor([stamp, stamp * stamp, *itertools.chain(*present)], dtype=torch.float64)
    dist.all_reduce(told)
    if float(told[0]) != stamp * world or float(told[1]) != stamp * stamp * world:
        raise RunError(f"processes made different moves (here: {names or 'the end of the round'}).")
    if gradients is None:
        return None
    anywhere = dict(zip(parameters, told[2:].split([len(ps) for ps in parameters.values()]), strict=True))
    out: dict[str, list[Tensor | None]] = {}
    for name, grads in gradients.items():
        own = parameters[name]
        pieces = [p.new_zeros(p.numel()) if g is None else g.reshape(-1) for g, p in zip(grads, own, strict=True)]
        flat = torch.cat(pieces)
        dist.all_reduce(flat)
        sums = flat.split([p.numel() for p in own])
        # a parameter without a gradient anywhere is left alone; one that any process has a gradient for moves in all
        out[name] = [
            (total / world).view_as(p) if count else None
            for total, p, count in zip(sums, own, anywhere[name].tolist(), strict=True)
        ]
    return out


def mean(values: dict[str, Tensor], world: int) -> dict[str, Tensor]:
    """Numbers averaged over processes, in one exchange."""
    if world == 1 or not values:
        return values
    stacked = torch.stack(list(values.values()))
    dist.all_reduce(stacked)
    return dict(zip(values, stacked / world, strict=True))


def agree(votes: Sequence[bool], world: int) -> list[bool]:
    """Each True on every process where it is true on any, in one exchange."""
    if world == 1:
        return list(votes)
    counted = torch.tensor(votes, dtype=torch.float32)
    dist.all_reduce(counted)
    return [v > 0 for v in counted.tolist()]


@torch.no_grad()
def alike(model: torch.nn.Module, world: int) -> None:
    """Give every process the first one's weights and buffers: a model built by hand differs from process to process."""
    for value in model.state_dict().values() if world > 1 else ():
        told = value.contiguous()
        dist.broadcast(told, 0)
        value.copy_(told)


def same(value: float, world: int) -> float:
    """The first process's number, on every process."""
    if world == 1:
        return value
    told = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(told, 0)
    return float(told)


SHARING = False  # whether all processes are measuring one and the same thing


@contextmanager
def sharing_work() -> Iterator[bool]:
    """Inside the block, in which all processes do the same, `each` divides its work among them. True on the first."""
    global SHARING
    number, world = start()
    SHARING = world > 1
    try:
        yield number == 0
    finally:
        SHARING = False


def each(items: Iterable[T], work: Callable[[int, T], R]) -> list[R]:
    """[work(i, item)] of all items, in order. Work must not depend on that of another item: where processes share it,
    each does its part and is told the others'."""
    numbered = list(enumerate(items))
    if not SHARING:
        return [work(i, item) for i, item in numbered]
    world = dist.get_world_size()
    parts: list[Any] = [None] * world
    dist.all_gather_object(parts, {i: work(i, item) for i, item in numbered[dist.get_rank() :: world]})
    return [parts[i % world][i] for i, _ in numbered]
