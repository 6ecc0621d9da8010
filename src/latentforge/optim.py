"""Optimisers by name, the user's changes to a player's seat, and optimisers to and from a checkpoint."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from latentforge.errors import InputError, suggest
from latentforge.game import Seat

Optimizer = Literal["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"]
MOMENTUM = 0.9  # of `momentum` where the family's own first beta is 0


def make_optimizer(seat: Seat, parameters: list) -> torch.optim.Optimizer:
    """The torch optimiser of a seat; fused where there is a fused kernel for the processor and the GPU. InputError
    for a name that is none."""
    common: dict[str, Any] = {"lr": seat.lr, "weight_decay": seat.weight_decay}
    match seat.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, **common, fused=True)
        case "momentum":
            return torch.optim.SGD(parameters, **common, momentum=seat.betas[0], fused=True)
        case "adagrad":
            return torch.optim.Adagrad(parameters, **common)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, **common, alpha=0.9)
        case "adam":
            return torch.optim.Adam(parameters, **common, betas=seat.betas, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, **common, betas=seat.betas, fused=True)
    raise InputError(f"there is no optimiser '{seat.optimizer}'.{suggest(seat.optimizer, get_args(Optimizer))}")


def seat_with(
    seat: Seat,
    player: str,
    lr: str | float | None,
    optimizer: str | None,
    weight_decay: float | None,
    clip: float | None,
    ema: float | None,
) -> Seat:
    """The family's seat with the user's options in place of its own."""
    changes: dict[str, Any] = {"optimizer": optimizer, "weight_decay": weight_decay, "clip": clip, "ema": ema}
    changes["lr"] = rates(lr).get(player, rates(lr).get("", None))
    if optimizer == "momentum" and not seat.betas[0]:  # the family's Adam has none
        changes["betas"] = (MOMENTUM, seat.betas[1])
    return replace(seat, **{k: v for k, v in changes.items() if v is not None})


def rates(lr: str | float | None) -> dict[str, float]:
    """'1e-3' -> {'': .001}; 'critic=1e-4,generator=2e-4' -> a rate by player."""
    if lr is None:
        return {}
    out = {}
    for piece in str(lr).split(","):
        name, _, number = piece.rpartition("=")
        try:
            out[name.strip()] = float(number)
        except ValueError:
            raise InputError(f"--lr {lr}: '{piece}' is not a number or player=number.") from None
        if not (out[name.strip()] > 0 and math.isfinite(out[name.strip()])):
            raise InputError(f"--lr {lr}: a learning rate must be a number above 0.")
    return out


def check_rates(lr: str | float | None, players: list[str]) -> None:
    """InputError where --lr names a player the model has not."""
    for name in rates(lr):
        if name and name not in players:
            raise InputError(f"--lr names '{name}', which is no player of this model.{suggest(name, players)}")


def check_seats(seats: dict[str, Seat], players: list[str]) -> None:
    """InputError where a player has no seat, or a seat no player."""
    for name in sorted(set(seats) ^ set(players)):
        has, lacks = ("seats", "players") if name in seats else ("players", "seats")
        raise InputError(f"'{name}' is in {has}() and not in {lacks}(); name the same players in both.")


def pack(optimizers: dict[str, torch.optim.Optimizer]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors by 'optimizer/player/index/key', other numbers by the same names)."""
    tensors, scalars = {}, {}
    for player, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{player}/{index}/{key}"] = value
                elif value is not None:  # SGD without momentum keeps a None
                    scalars[f"optimizer/{player}/{index}/{key}"] = value
    return tensors, scalars


def unpack(optimizers: dict[str, torch.optim.Optimizer], tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
    """Give the optimisers back the state that `pack` took."""
    states: dict[str, dict[int, dict[str, Any]]] = {player: {} for player in optimizers}
    for name, value in (tensors | scalars).items():
        if name.startswith("optimizer/"):
            _, player, index, key = name.split("/")
            parameter = optimizers[player].param_groups[0]["params"][int(index)]
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value = laid_out_like(parameter, value)
            states[player].setdefault(int(index), {})[key] = value
    for player, optimizer in optimizers.items():
        optimizer.load_state_dict({"state": states[player], "param_groups": optimizer.state_dict()["param_groups"]})


def laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` with the strides of `parameter`: fused kernels on the processor walk memory, not indices, and step the
    wrong elements where a gradient or a state is laid out otherwise."""
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
