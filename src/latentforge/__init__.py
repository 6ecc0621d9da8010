"""Latentforge trains, compares and applies models that learn a latent space: autoencoders, VAEs, GANs and their
hybrids.

    import latentforge as lf

    model = lf.create("vae", image_shape=(1, 28, 28), latent_dim=20)
    lf.fit(model, "mnist-5k", minutes=2)
    images = model.sample(64)  # (64, 1, 28, 28) in [0, 1]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentforge._version import __version__
from latentforge.errors import InputError, Interrupted, RunError
from latentforge.registry import create, describe, list_models, register
from latentforge.stopping import keep_ctrl_c

keep_ctrl_c()  # before numpy is imported

if TYPE_CHECKING:  # what `_LAZY` finds at run time
    from latentforge import losses
    from latentforge.api import fit, resume
    from latentforge.clock import Clock
    from latentforge.data import Batch, Dataset, Images, open_data
    from latentforge.duel import Duel
    from latentforge.game import Game, Seat, Term, frozen, leave_out
    from latentforge.parts.gaussian import Diagonal
    from latentforge.saving import load
    from latentforge.tasks.anomaly import AnomalyDetector
    from latentforge.tasks.audit import audit
    from latentforge.tasks.augment import augment
    from latentforge.tasks.bayes import BayesClassifier
    from latentforge.tasks.classify import classify
    from latentforge.tasks.compare import compare
    from latentforge.tasks.compress import compress, decompress
    from latentforge.tasks.detect import Detector, detect
    from latentforge.tasks.directions import principal_directions, traverse
    from latentforge.tasks.edit import attribute_vector, edit
    from latentforge.tasks.encode import embed
    from latentforge.tasks.evaluate import evaluate
    from latentforge.tasks.few_labels import SemiSupervisedClassifier
    from latentforge.tasks.finetune import finetune
    from latentforge.tasks.interpolate import interpolate
    from latentforge.tasks.invert import invert
    from latentforge.tasks.neighbours import neighbours
    from latentforge.tasks.restore import restore
    from latentforge.tasks.transformer import CodeTransformer
    from latentforge.train import Trainer

# torch is imported at the first use of one of these, so that the command line answers at once
_LAZY = {
    "Game": "game", "Duel": "duel", "Seat": "game", "Term": "game", "frozen": "game", "leave_out": "game", "Clock": "clock",
    "Diagonal": "parts.gaussian", "Trainer": "train", "fit": "api", "resume": "api", "load": "saving", "open_data": "data",
    "Dataset": "data", "Batch": "data", "Images": "data",
    "embed": "tasks.encode", "interpolate": "tasks.interpolate", "evaluate": "tasks.evaluate",
    "compare": "tasks.compare", "invert": "tasks.invert", "attribute_vector": "tasks.edit", "edit": "tasks.edit",
    "traverse": "tasks.directions", "principal_directions": "tasks.directions", "neighbours": "tasks.neighbours",
    "CodeTransformer": "tasks.transformer", "augment": "tasks.augment", "audit": "tasks.audit",
    "detect": "tasks.detect", "Detector": "tasks.detect", "AnomalyDetector": "tasks.anomaly", "classify": "tasks.classify",
    "BayesClassifier": "tasks.bayes", "losses": "", "compress": "tasks.compress", "decompress": "tasks.compress",
    "restore": "tasks.restore", "SemiSupervisedClassifier": "tasks.few_labels", "finetune": "tasks.finetune",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'latentforge' has no attribute '{name}'")
    if not _LAZY[name]:  # a module
        return import_module(f"latentforge.{name}")
    return getattr(import_module(f"latentforge.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


__all__ = [  # noqa: RUF022
    "__version__", "InputError", "RunError", "Interrupted", "create", "describe", "list_models", "register", "Game", "Duel",
    "Seat", "Term", "frozen", "leave_out", "Clock", "Diagonal", "Trainer", "fit", "resume", "load", "open_data", "Dataset",
    "Batch", "Images", "embed", "interpolate", "invert", "evaluate", "compare", "attribute_vector", "edit", "traverse",
    "principal_directions", "neighbours", "CodeTransformer", "augment", "audit", "detect", "Detector", "AnomalyDetector",
    "classify", "BayesClassifier", "compress", "decompress", "losses", "restore", "SemiSupervisedClassifier", "finetune",
]  # fmt: skip
