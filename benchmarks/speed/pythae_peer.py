"""pythae's own trainers on its own VAE and VAEGAN, given the networks of the workload."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress

import torch
from clockwork import BATCH, CHUNKS, LATENT, RATE, digits, options, report
from networks import WORKLOADS
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEGAN, VAEConfig, VAEGANConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder
from pythae.trainers import (
    BaseTrainer,
    BaseTrainerConfig,
    CoupledOptimizerAdversarialTrainer,
    CoupledOptimizerAdversarialTrainerConfig,
)
from pythae.trainers.training_callbacks import TrainingCallback


class Encoder(BaseEncoder):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        mean, log_variance = self.net(x).chunk(2, 1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, z):
        return ModelOutput(reconstruction=torch.sigmoid(self.net(z)))


class Discriminator(BaseDiscriminator):
    """Two layers in pythae's sense: the features, then the verdict."""

    def __init__(self, net):
        super().__init__()
        self.net, self.depth = net, 2

    def forward(self, x, output_layer_levels=None):
        features = self.net.body(x)
        if output_layer_levels == [1]:
            return ModelOutput(embedding_layer_1=features)
        return ModelOutput(embedding=torch.sigmoid(self.net.head(features)))


class Enough(Exception):
    """Raised out of the trainer when the window is over."""


class Watch(TrainingCallback):
    """Stamps every step."""

    def __init__(self, seconds: float):
        self.seconds, self.stamps = seconds + 3, []

    def on_train_step_end(self, training_config, **kwargs):
        self.stamps.append(time.time())
        if self.stamps[-1] - self.stamps[0] > self.seconds and len(self.stamps) > 30 + 2 * CHUNKS:
            raise Enough


def main() -> None:
    o = options()
    torch.manual_seed(0)
    images = torch.from_numpy(digits(o.data))[:, None]
    images = BaseDataset(images, torch.zeros(len(images)))
    nets = WORKLOADS[o.workload]()
    parts = {"encoder": Encoder(nets["encoder"]), "decoder": Decoder(nets["decoder"])}
    common = {
        "num_epochs": 1000,
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": BATCH,
        "no_cuda": True,
    }
    sizes = {"input_dim": (1, 28, 28), "latent_dim": LATENT, "reconstruction_loss": "bce"}
    watch = Watch(o.seconds)
    with tempfile.TemporaryDirectory() as folder:
        if o.workload == "vae-gan":
            # a margin so wide that no player ever sits out
            settings = VAEGANConfig(**sizes, adversarial_loss_scale=0.5, reconstruction_layer=1, margin=1e9)
            model = VAEGAN(settings, **parts, discriminator=Discriminator(nets["critic"]))
            config = CoupledOptimizerAdversarialTrainerConfig(
                output_dir=folder,
                **common,
                encoder_learning_rate=RATE,
                decoder_learning_rate=RATE,
                discriminator_learning_rate=RATE,
            )
            trainer = CoupledOptimizerAdversarialTrainer(model, images, training_config=config, callbacks=[watch])
        else:
            model = VAE(VAEConfig(**sizes), **parts)
            config = BaseTrainerConfig(output_dir=folder, **common, learning_rate=RATE)
            trainer = BaseTrainer(model, images, training_config=config, callbacks=[watch])
        with suppress(Enough):
            trainer.train()
    stamps = watch.stamps
    warm = next(i for i, s in enumerate(stamps) if s - stamps[0] > 3 and i >= 30)
    size = (len(stamps) - warm - 1) // CHUNKS
    at = [stamps[warm + i * size] for i in range(CHUNKS + 1)]
    chunks = [size * BATCH / (b - a) for a, b in zip(at, at[1:], strict=False)]
    report(chunks, stamps[0] - o.start, None, ("pythae", "torch", "numpy"))


if __name__ == "__main__":
    main()
