"""The one trainer. It plays rounds of any `Game` until the budget is spent, and knows no model by name.

For each move of a round: the loss of every named player is computed with autocast closed behind it; each player's
gradient is taken with respect to its own parameters only, all players before any step; gradients are averaged over
accumulated parts and processes; a player whose gradient is not finite sits out and is counted; then clip, learning
rate from the clock, step. After the last move: `settle`, the moving averages, the clock and, where due, log, preview
and checkpoint. Checkpoints fall between rounds.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from latentforge import distributed
from latentforge.allocator import keep_freed_memory, want_of_memory
from latentforge.averages import Averages
from latentforge.checkpoint import state_of
from latentforge.clock import Clock, mix, reseed, seeded
from latentforge.data.dataset import Dataset
from latentforge.data.stream import Stream
from latentforge.diagnose.history import GRADIENT
from latentforge.errors import Collapsed, InputError, Interrupted, RunError, suggest
from latentforge.game import Game, Move, compile_networks, need_compiler, own_parameters
from latentforge.gradients import add, gradients_of
from latentforge.journal import Journal
from latentforge.limits import check
from latentforge.nets.conv import layout
from latentforge.optim import Optimizer, check_rates, check_seats, laid_out_like, make_optimizer, seat_with
from latentforge.run import Run
from latentforge.samplers import Sampler, sampler_for, seconds_for
from latentforge.saving import need_finite, pick_device, pick_precision, save_result
from latentforge.schedules import Schedule, budget, decay, ramp
from latentforge.stopping import StopSignal

BAD_LIMIT = 20  # moves in a row with a non-finite gradient before the run is given up
CHECKPOINT_SECONDS = 60.0  # between two of them; more where writing would take over a twentieth of the time
ROW_SECONDS = 60.0  # most between two rows of statistics
PREVIEWS = 10  # per run


class Trainer:
    """Trains a game on a data set. One of epochs, examples and minutes is the budget (default: 5 minutes).

    Args:
        epochs: budget in passes over the training images
        examples: budget in training images drawn
        minutes: budget in minutes from the first round to the fitted sampler
        batch_size: images per step, over all accumulated parts and processes; default: the model's own, 8 to 128
        accumulate: split each batch into this many parts (gradient accumulation) to save memory; for models with a critic,
            the critic's batch
        lr: learning rate, one number for all players or player=number,...; default: the model's own
        optimizer: sgd, momentum, adagrad, rmsprop, adam or adamw for all players; default: the model's own
        weight_decay: weight decay of all players; default: the model's own
        clip: scale down gradients of a player whose norm is above this; default: the model's own
        schedule: learning rate over the budget: constant, linear or cosine down to 0; default: the model's own
        warmup: examples over which the learning rate rises from 0
        ema: half-life in examples of the averaged weights, which are used for sampling and saved; 0 for none; default:
            the model's own
        sampler: density to draw codes from: prior; gmm or flow, fitted to codes of training images; auto: the likeliest for
            validation images; default: the model's own
        checkpoint_every: examples between checkpoints; default: every 60 seconds, rarer where writing takes long
        tensorboard: also write TensorBoard files
        seed: seed of everything random
        device: auto, cpu, cuda or mps
        precision: auto: bf16 on GPUs that compute in it, and on such processors for models it speeds up; otherwise fp32
        compile: torch.compile the networks; auto is off
        strict: end the run, with exit code 1, when the doctor finds something wrong
        on_collapse: at mode collapse: warn, stop, or restart with another seed and what is left of the budget
    """

    def __init__(
        self,
        model: Game,
        data: Dataset,
        *,
        epochs: float | None = None,
        examples: int | None = None,
        minutes: float | None = None,
        batch_size: int | None = None,
        accumulate: int = 1,
        lr: str | float | None = None,
        optimizer: Optimizer | None = None,
        weight_decay: float | None = None,
        clip: float | None = None,
        schedule: Schedule | None = None,
        warmup: int = 0,
        ema: float | None = None,
        sampler: Sampler | None = None,
        checkpoint_every: int | None = None,
        tensorboard: bool = False,
        seed: int = 0,
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        compile: Literal["auto", "on", "off"] = "auto",
        strict: bool = False,
        on_collapse: Literal["warn", "stop", "restart"] = "warn",
        run: Run | None = None,
        quiet: bool = False,
    ):
        given = dict(locals())
        options = {k: v for k, v in given.items() if k not in ("self", "model", "data", "run", "quiet")}
        check(Trainer, options | {"device": str(device)})
        self.rank, self.world = distributed.start()
        self.device = distributed.local_device(pick_device(device), str(device) == "auto")
        self.precision = pick_precision(self.device, model.half_pays) if precision == "auto" else precision
        self.warmup, self.seed, self.run = warmup, seed, run
        self.batch_size = batch_size = batch_size or model.batch_size
        self.data, self.checkpoint_every, self.strict, self.on_collapse = data, checkpoint_every, strict, on_collapse
        self.examples, self.minutes = budget(len(data.train), epochs, examples, minutes)
        parts = distributed.parts_of(batch_size, accumulate, self.world)
        seats, players = model.seats(), list(model.players())
        check_rates(lr, players)
        check_seats(seats, players)
        decay(schedule or model.schedule, 0.0)  # InputError for a name that is none
        kind = sampler_for(model, sampler)
        if compile == "on":
            need_compiler(self.device)  # before anything of the model changes
        model.meet(data.train)
        self.schedule = schedule or model.schedule  # which may follow from the images it has just met
        model.sampler_kind, model.sampler, model.sampler_chosen = kind, None, False
        vars(model).pop("converged", None)  # what an earlier training ended by
        model.trained_on, model.data_fingerprint, model.classes = data.source, None, data.classes
        model.part_size = batch_size // parts
        self.model = model.to(self.device, memory_format=torch.channels_last).train()
        distributed.alike(model, self.world)
        self.seats = {k: seat_with(s, k, lr, optimizer, weight_decay, clip, ema) for k, s in seats.items()}
        self.parameters = own_parameters(model)
        self.optimizers = {k: make_optimizer(s, self.parameters[k]) for k, s in self.seats.items()}
        # `average`, a second copy that follows `model` and that `averages` moves, is what is previewed, measured, entered and
        # finished; it is `model` itself where no seat has an average
        self.average: Game = model
        if any(s.ema for s in self.seats.values()):
            self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.averages = None if self.average is model else Averages(self.average, model, self.seats)
        self.compiled = compile
        if compile == "on":
            compile_networks(model)

        images = data.train.to(self.device)
        mine = range(self.rank * accumulate, (self.rank + 1) * accumulate)
        self.streams = [Stream(images, batch_size, seed, i, parts) for i in mine]
        self.clocks = [Clock(seed, self.device, i, parts) for i in mine]
        self.plays: list[Iterator[Move]] = []  # of the round in hand, one for each accumulated part
        self.fresh = 0  # images drawn in the last round
        self.over = False  # whether the minutes of the budget are spent
        self.seconds = 0.0  # spent in rounds, previews and checkpoints, over all sessions
        self.base_seconds = 0.0  # of them, those of sessions before this one
        # when the session began, and when the last row and checkpoint were written, by time.monotonic()
        self.started = self.logged_at = self.saved_at = 0.0
        self.saved_examples = 0  # images drawn before the last checkpoint
        self.pause = CHECKPOINT_SECONDS
        self.every = (self.examples or 0) // 200  # examples between two rows of statistics
        # without that, seconds: a budget in minutes has about 3,600 rows, more only where that is less than one a minute
        self.row_pause = ROW_SECONDS if self.every else min(ROW_SECONDS, max(1.0, (self.minutes or 0) / 60))
        self.bad_steps, self.bad_in_a_row = 0, dict.fromkeys(self.seats, 0)
        self.unread: list[tuple[str, Tensor]] = []  # whose gradients were not finite, as far as nobody has looked
        self.waits = self.device.type != "cuda"
        self.preview_progress, self.stop = 0.0, StopSignal()
        self.journal, self.tensorboard = Journal(quiet, silent=self.rank > 0), tensorboard

    # -- one round -----------------------------------------------------------------------------------------------
    def round(self) -> None:
        """Play one round, in the stage that is due: every move of it, then settle, averages and clock."""
        self.advance()
        for t in self.clocks:
            t.start_round()
        # for dropout and whatever draws globally
        reseed(mix(self.seed, self.clocks[0].round, self.rank, 0xD0), self.device)
        self.plays = [self.model.play(s, t) for s, t in zip(self.streams, self.clocks, strict=True)]
        while (gradients := self.next_move()) is not None:
            for name, grads in gradients.items():
                self.step(name, grads)
        t = self.clocks[0]
        means = {k: torch.stack([c.logged[k].to(self.device) for c in self.clocks]).mean() for k in t.logged}
        means = distributed.mean(means, self.world)
        with torch.no_grad():
            for c in self.clocks:
                c.means = means
            self.model.settle(t)
        self.fresh = self.streams[0].drawn - t.examples  # a round may draw several batches
        if self.averages:
            self.averages.update(self.fresh, self.streams[0].drawn)
        self.journal.note(means)
        for c, s in zip(self.clocks, self.streams, strict=True):
            c.round, c.examples = c.round + 1, s.drawn
            if self.examples:
                c.progress = min(1.0, c.examples / self.examples)

    def next_move(self) -> dict[str, list[Tensor | None]] | None:
        """Each named player's gradient of its own loss over its own parameters, averaged over parts and processes;
        None at the end of the round."""
        total: dict[str, list[Tensor | None]] | None = None
        for part, play in enumerate(self.plays):
            # autocast is open for this stretch of `play` only: a cast kept across a step would keep the old weights
            with self.autocast():
                move: Move | None = self.next_of(play)
            names = None if move is None else list(move)
            if part and names != (None if total is None else list(total)):
                raise RunError(
                    f"{self.model.name}: the parts of one batch made different moves; play() must yield the same players "
                    "in every part: decide by t and buffers, not by the batch."
                )
            if move is None:
                continue
            grads = gradients_of(move, self.parameters, 1 / len(self.plays))
            total = grads if total is None else {k: add(total[k], grads[k]) for k in grads}
        if self.world > 1:
            total = distributed.average_gradients(total, self.parameters, self.world)
        return total

    def next_of(self, play: Iterator[Move]) -> Move | None:
        try:
            move = next(play, None)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise InputError(
                f"batch norm of {self.model.name} needs two examples; give a larger --batch-size, or less --accumulate."
            ) from None
        for name in move or ():
            if name not in self.parameters:
                raise InputError(f"play() moves '{name}', which is no player.{suggest(name, self.parameters)}")
        return move

    def autocast(self):
        return nullcontext() if self.precision == "fp32" else torch.autocast(self.device.type, torch.bfloat16)

    def step(self, name: str, grads: list[Tensor | None]) -> None:
        """Clip, set the learning rate and step one player, unless its gradient is not finite."""
        seat, optimizer = self.seats[name], self.optimizers[name]
        present = [g for g in grads if g is not None]
        if not present:
            return
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(present)).float())
        bad = ~norm.isfinite()
        self.unread.append((name, bad))
        # fused momentum that begins with a step left out would begin with whatever was in memory
        if self.waits or not optimizer.defaults.get("fused") or optimizer.defaults.get("momentum"):
            self.read()
            if bad:
                return
        else:  # a GPU is not waited for: fused optimisers heed this flag themselves
            optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
        self.journal.note({f"{GRADIENT}{name}": norm})
        if seat.clip:
            torch._foreach_mul_(present, (seat.clip / norm).clamp(max=1.0))
        t = self.clocks[0]
        rate = seat.lr * ramp(t.examples + self.batch_size, self.warmup) * decay(self.schedule, t.progress, seat.span)
        for group in optimizer.param_groups:
            group["lr"] = rate
        for p, g in zip(self.parameters[name], grads, strict=True):
            p.grad = None if g is None else laid_out_like(p, g)
        optimizer.step()
        for p in self.parameters[name]:
            p.grad = None
        # fused optimisers do not bump versions: without this a graph reused across the step gives wrong gradients
        increment_version(self.parameters[name])

    def read(self) -> None:
        """Count the moves that players sat out; RunError where one of them did so too often in a row."""
        flags = torch.stack([bad for _, bad in self.unread]).tolist() if self.unread else []
        moves, self.unread = [name for name, _ in self.unread], []
        for name, bad in zip(moves, flags, strict=True):
            self.bad_steps += bad
            self.bad_in_a_row[name] = self.bad_in_a_row[name] + 1 if bad else 0
            if self.bad_in_a_row[name] >= BAD_LIMIT:
                self.journal.write(self.where())  # for the doctor's eyes
                raise RunError(
                    f"the gradient of the {name} was not finite {BAD_LIMIT} times in a row at round "
                    f"{self.clocks[0].round}; lower --lr, set --clip 1, or use --precision fp32."
                )

    # -- the run -------------------------------------------------------------------------------------------------
    def fit(self) -> Game:
        """Train to the end of the budget, fit the sampler, save. Returns the model with its averaged weights."""
        if self.average.sampler_kind != "prior":
            import_module("sklearn.cluster")  # before the clock starts: it takes seconds
        memory = want_of_memory(self.batch_size)
        with seeded(device=self.device), keep_freed_memory() as kept, self.stop, self.journal.display, memory:
            self.started = self.logged_at = self.saved_at = time.monotonic()
            self.base_seconds, self.saved_examples = self.seconds, self.clocks[0].examples
            self.journal.display.note(self.applied(kept))
            if self.model.batch_coupled and len(self.streams) * self.world > 1:
                self.journal.display.note(
                    f"batch norm, minibatch statistics, dropout or spectral norm of {self.model.name} see "
                    f"{self.model.part_size} images at once and not {self.batch_size}, so it is not trained as it would be "
                    "in one part; a larger --batch-size shows them more"
                )
            run = self.run if self.rank == 0 else None
            self.journal.open(run, self.tensorboard, self.model, self.precision, self.examples, self.minutes)
            if self.clocks[0].round == 0:
                self.preview()
                # a resumed run begins from these weights, which follow from no seed where the model was given
                self.checkpoint()
            (self.over,) = distributed.agree([self.time_is_up()], self.world)
            while not self.done():
                self.round()
                self.after_round()
            self.log()
            self.preview()
            self.checkpoint()
            self.heed()
            return self.conclude()

    def applied(self, kept: bool) -> str:
        """What the run computes with, for the log."""
        words = [self.device.type, f"{torch.get_num_threads()} threads", self.precision]
        words += ["channels last"] * (layout(self.device) == torch.channels_last)
        words += ["compiled"] * (self.compiled == "on") + ["freed memory kept"] * kept
        words += ["images in the processor's memory"] * (self.streams[0].images.pixels.device.type != self.device.type)
        shown = getattr(self.model, "augment", "none")  # `auto` has come to something by now
        return ", ".join(words + [f"critic sees images under {shown}"] * (shown != "none"))

    def elapsed(self) -> float:
        """Seconds, the same on every process."""
        return distributed.same(self.base_seconds + time.monotonic() - self.started, self.world)

    def done(self) -> bool:
        if self.examples or self.model.converged:
            return self.model.converged or self.clocks[0].examples >= (self.examples or 0)
        return self.over

    def time_is_up(self) -> bool:
        """Whether the minutes of the budget are over, by this process's clock, but for what fitting the sampler takes."""
        seconds = 60 * (self.minutes or 0)
        told = self.average.condition
        fit = seconds_for(self.average.sampler_kind, told.size if told is not None and told.classes else 0)
        reserve = 0.0 if self.average.sampler_chosen else min(fit, 0.1 * seconds)
        return self.base_seconds + time.monotonic() - self.started > seconds - reserve

    def advance(self) -> None:
        """Begin the next stage where it is due, from the averaged weights."""
        t, begins = self.clocks[0], self.model.begins
        if t.stage == len(begins) or t.progress < begins[t.stage]:
            return
        for c in self.clocks:
            c.stage += 1
        reseed(mix(self.seed, t.round, 0xE7), self.device)
        with torch.no_grad():
            self.average.enter(t.stage, self.data.train, self.data.validation)
        self.take_average()

    def take_average(self) -> None:
        """Give the model its averaged weights, and the sampler fitted on them."""
        sampler = self.average.sampler
        self.average.sampler = self.model.sampler = None
        self.model.load_state_dict(self.average.state_dict())
        self.average.sampler = self.model.sampler = sampler
        self.model.sampler_scores, self.model.sampler_chosen = self.average.sampler_scores, self.average.sampler_chosen

    def after_round(self) -> None:
        """Whatever is due between two rounds."""
        t, now = self.clocks[0], time.monotonic()
        votes = [
            self.stop.asked,
            self.time_is_up(),
            now - self.logged_at > self.row_pause,
            self.rank == 0 and now - self.saved_at > self.pause,  # who writes knows how long that takes
        ]
        stop, self.over, log, save = distributed.agree(votes, self.world)
        if self.every:
            log = log or t.examples // self.every > (t.examples - self.fresh) // self.every
        if self.checkpoint_every:
            save = t.examples - self.saved_examples >= self.checkpoint_every
        if log:
            self.log()
        if save or stop:
            self.checkpoint()
        if stop:
            (kept,) = distributed.agree([self.run is not None and "checkpoint" not in self.journal.failing], self.world)
            on = f"; continue with '{self.run.goes_on_by()}'" if kept and self.run else ""
            raise Interrupted(
                f"stopped at round {t.round}" + ("; its checkpoint is written" if kept else ", not kept") + on
            )
        if log:
            self.heed()

    def let_go(self) -> None:
        """Before another trainer takes its place: whatever it has on a GPU goes from there."""
        self.streams, self.plays, self.optimizers, self.averages = [], [], {}, None
        self.model.cpu()
        self.average.cpu()

    def heed(self) -> None:
        """End the run, after a checkpoint, where a finding is to end it."""
        alarm = self.journal.alarm(self.strict, self.on_collapse)
        ends, collapsed = distributed.agree([alarm is not None, isinstance(alarm, Collapsed)], self.world)
        if ends:  # the signs are looked at on one process
            self.checkpoint()
            raise alarm or (
                Collapsed("mode collapse: seen on another process") if collapsed else RunError("ended by a finding")
            )

    def where(self) -> dict[str, Any]:
        """How far the run is; reads the clock of a `--minutes` budget."""
        t = self.clocks[0]
        self.seconds = self.elapsed()
        if self.minutes:
            for c in self.clocks:
                c.progress = min(1.0, self.seconds / (60 * self.minutes))
        return {
            "round": t.round, "examples": t.examples, "epoch": round(t.examples / len(self.data.train), 4),
            "progress": round(t.progress, 5), "seconds": round(self.seconds, 3), "bad_steps": self.bad_steps,
        }  # fmt: skip

    def log(self) -> None:
        """A row of statistics, and previews about every tenth of the budget."""
        self.read()
        self.journal.log(self.where(), self.examples, self.minutes)
        self.logged_at = time.monotonic()
        progress = self.clocks[0].progress
        if math.floor(progress * PREVIEWS) > math.floor(self.preview_progress * PREVIEWS):
            self.preview()

    def preview(self) -> None:
        self.preview_progress = self.clocks[0].progress
        self.journal.preview(self.where(), self.average, self.data, self.seed)

    def checkpoint(self) -> None:
        """Everything that evolves, written between rounds. A full disk costs this checkpoint, not the run."""
        self.read()
        self.seconds = self.elapsed()
        began = self.saved_at = time.monotonic()
        self.saved_examples = self.clocks[0].examples
        if self.run is None or self.rank:
            return
        saved, state = state_of(self)
        run = self.run
        self.journal.guard("checkpoint", lambda: run.save_checkpoint(saved, state))
        self.saved_at = time.monotonic()
        self.pause = max(CHECKPOINT_SECONDS, 20 * (self.saved_at - began))

    def conclude(self) -> Game:
        """Fit the sampler on the averaged weights, give them to the model and save it."""
        began = time.monotonic()
        need_finite(self.average)
        reseed(mix(self.seed, 0xF1), self.device)
        with torch.no_grad():
            self.average.eval().finish(self.data.train, self.data.validation)
        self.take_average()
        self.model.eval().leave()
        if self.run and self.rank == 0:
            spent = {"training_seconds": round(self.seconds, 2), "finish_seconds": round(time.monotonic() - began, 2)}
            t = self.clocks[0]
            numbers = {"rounds": t.round, "examples": t.examples, "bad_steps": self.bad_steps, **spent}
            save_result(self.run, self.model, numbers)
        self.journal.close()
        return self.model
