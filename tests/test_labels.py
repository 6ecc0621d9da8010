"""What a conditional model is told, where the data say something else than the model expects; and what it remembers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import latentforge as lf
from conftest import tiny_data
from latentforge.cli import main
from latentforge.data import Dataset, Images
from latentforge.errors import InputError
from latentforge.run import Run
from latentforge.train import Trainer

SMALL = {"net": "mlp", "hidden": (8,), "latent_dim": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A class cvae that was always told its label, trained on a folder of arrays."""
    folder = tmp_path_factory.mktemp("labels")
    data = tiny_data()
    np.savez(
        folder / "own.npz", images=data.train.pixels.numpy().transpose(0, 2, 3, 1), labels=data.train.labels.numpy()
    )
    lf.fit("cvae", str(folder / "own.npz"), out=folder / "run", examples=64, batch_size=8, quiet=True,
           model_options={**SMALL, "drop": 0.0})  # fmt: skip
    return folder / "run"


@pytest.mark.parametrize("verb", ["reconstruct", "embed", "interpolate"])
def test_images_with_other_labels_are_refused(run, verb, tmp_path, capsys):
    n, shape = 12, (28, 28, 1)
    images = np.zeros((n, *shape), np.uint8)
    for name, labels, word in (
        ("descriptors", np.random.default_rng(0).random((n, 4)), "descriptors"),
        ("classes", np.arange(n), "the model knows 0 to 2"),
    ):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
        code = main([verb, str(run), "--data", str(tmp_path / f"{name}.npz"), "--split", "all"])
        text = capsys.readouterr().err
        assert code == 2
        assert word in text
        assert text.count("\n") == 1
    np.savez(tmp_path / "none.npz", images=images)
    assert main([verb, str(run), "--data", str(tmp_path / "none.npz"), "--split", "all"]) == 2
    assert "a label for every image" in capsys.readouterr().err


def test_an_unfinished_run_remembers_how_frequent_labels_are(tmp_path):
    data = tiny_data()
    few = torch.where(data.train.labels == 2)[0][:1]
    keep = torch.cat([torch.where(data.train.labels == 0)[0], few])
    data = Dataset(
        "uneven", "uneven", Images(data.train.pixels[keep], data.train.labels[keep]), data.validation, data.test
    )
    run = Run.create(tmp_path / "run", {"model": {}, "data": {}, "train": {}})
    model = lf.create("cvae", image_shape=(1, 28, 28), num_classes=3, **SMALL)
    trainer = Trainer(model, data, examples=800, batch_size=8, quiet=True, run=run)
    trainer.started = trainer.base_seconds = 0.0
    trainer.round()
    trainer.checkpoint()
    tensors, _, _ = run.load_checkpoint()
    share = tensors["ema/condition.share"]
    torch.testing.assert_close(share, torch.tensor([len(keep) - 1.0, 0.0, 1.0]) / len(keep))


def test_a_class_without_training_images_can_be_asked_for():
    """Only the test images show it: its sampler is the density of all classes."""
    data = tiny_data()
    test = Images(data.test.pixels, torch.full_like(data.test.labels, 3))
    data = Dataset("gap", "gap", data.train, data.validation, test)
    model = lf.fit("cvae-gan", data, examples=64, batch_size=8, quiet=True, model_options=SMALL)
    assert model.condition.size == 4
    assert model.sample(5, label=3, seed=0).isfinite().all()


def test_no_average_and_batch_norm_still_fit_the_sampler_on_eval_codes():
    """With --ema 0 the model that was trained fits its own sampler: in eval mode, its running statistics untouched."""
    data = tiny_data((1, 32, 32))
    model = lf.create("larsen-vae-gan", image_shape=(1, 32, 32), latent_dim=2, net="larsen")
    trainer = Trainer(model, data, examples=16, batch_size=8, ema=0, quiet=True)
    before = {}
    finish = model.finish

    def watched(*splits):
        before.update({k: v.clone() for k, v in model.state_dict().items()})
        assert not model.training
        finish(*splits)

    model.finish = watched
    trainer.fit()
    assert before
    for name, value in model.state_dict().items():
        if not name.startswith("sampler"):
            assert torch.equal(value, before[name]), name


def test_the_average_of_a_spectral_norm_keeps_its_bound():
    model = lf.create(
        "gan", image_shape=(1, 28, 28), latent_dim=2, hidden=(16,), critic_hidden=(16, 16), spectral_norm=True
    )
    trainer = Trainer(model, tiny_data(), examples=100 * 8, batch_size=8, ema=100, quiet=True)
    for _ in range(100):
        trainer.round()
    for layer in trainer.average.eval().critic.modules():
        if isinstance(layer, torch.nn.Linear):
            assert torch.linalg.matrix_norm(layer.weight, 2) < 1.1


def test_every_layer_of_a_conditional_critic_is_normalised():
    for how in ("projection", "concat"):
        model = lf.create("cgan", image_shape=(1, 28, 28), num_classes=3, how=how, spectral_norm=True, width=4)
        layers = [m for m in model.critic.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
        assert len(layers) >= 4
        assert all(torch.nn.utils.parametrize.is_parametrized(m, "weight") for m in layers)


def test_a_converged_run_is_not_resumed(tmp_path):
    options = {**SMALL, "critic_hidden": (8,), "generator_hidden": (8,), "noise_dim": 2, "gan_rounds": 1, "vae_rounds": 2,
               "start_rounds": 0, "patience": 1, "tolerance": 0.9}  # fmt: skip
    model = lf.fit("joint-vae-gan", tiny_data(), out=tmp_path / "run", examples=80_000, batch_size=8, quiet=True,
                   model_options=options)  # fmt: skip
    assert model.converged
    with pytest.raises(InputError, match="converged"):
        lf.resume(tmp_path / "run", tiny_data(), examples=160_000, quiet=True)
