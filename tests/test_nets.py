"""Networks: shapes for images of any size, and the layer sizes and parameter counts the articles print or imply."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import latentforge as lf
from latentforge import game, nets
from latentforge.nets import conv, published
from latentforge.nets.conv import Block, halvings
from latentforge.nets.convolution import Conv2d, ConvTranspose2d
from latentforge.nets.dropout import Dropout, mask

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 30, 46), (3, 64, 64), (2, 9, 17), (4, 8, 8)]
DIGIT = (1, 28, 28)
Z = 5

ENCODERS = {
    "conv-3": lambda s: nets.ConvEncoder(s, Z, 4, kernel=3),
    "conv-5": lambda s: nets.ConvEncoder(s, Z, 4, kernel=5),
    "named-mlp": lambda s: nets.encoder("mlp", s, Z, (6, 7), 4, 4),
    "named-conv": lambda s: nets.encoder("conv", s, Z, (6,), 4, 4),
    "named-resnet": lambda s: nets.encoder("resnet", s, Z, (6,), 4, 4),
    "named-article-001": lambda s: nets.encoder("article-001", s, Z, (6,), 4, 4),
    "named-article-004": lambda s: nets.encoder("article-004", s, Z, (6,), 4, 4),
    "larsen": lambda s: published.larsen_encoder(s, Z),
}
DECODERS = {
    "conv-3": lambda s: nets.ConvDecoder(Z, s, 4, kernel=3),
    "conv-5": lambda s: nets.ConvDecoder(Z, s, 4, kernel=5),
    "conv-norm": lambda s: nets.ConvDecoder(Z, s, 4, norm=True),
    "named-mlp": lambda s: nets.decoder("mlp", Z, s, (6, 7), 4, 4),
    "named-conv": lambda s: nets.decoder("conv", Z, s, (6,), 4, 4),
    "named-resnet": lambda s: nets.decoder("resnet", Z, s, (6,), 4, 4),
    "named-article-004": lambda s: nets.decoder("article-004", Z, s, (6,), 4, 4),
    "article-003-generator": lambda s: published.article_003_generator(Z, s),
    "article-004-generator": lambda s: published.article_004_generator(Z, s),
    "larsen": lambda s: published.larsen_decoder(Z, s),
}
CRITICS = {
    "mlp": lambda s: nets.MLPCritic(s, (6, 7)),
    "conv-3": lambda s: nets.ConvCritic(s, 4, kernel=3),
    "conv-4": lambda s: nets.ConvCritic(s, 4, kernel=4),
    "conv-5": lambda s: nets.ConvCritic(s, 4, kernel=5),
    "conv-norm": lambda s: nets.ConvCritic(s, 4, norm=True),
    "article-003": published.article_003_critic,
    "article-004": published.article_004_critic,
    "larsen": published.larsen_critic,
}


HEAVY = ("larsen", "article-003", "article-004")  # published widths: numbers on small images, elsewhere shapes only


def device(name: str, shape: tuple[int, int, int]) -> torch.device:
    """Where to build and run: `meta` knows shapes and gradients but computes nothing."""
    return torch.device("meta" if name.removeprefix("named-").startswith(HEAVY) and math.prod(shape) > 300 else "cpu")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def check_all_learn(module: nn.Module, out: torch.Tensor) -> None:
    """Every parameter has a part in the output."""
    gradients = torch.autograd.grad(out.square().sum(), list(module.parameters()), allow_unused=True)
    unused = [n for (n, _), g in zip(module.named_parameters(), gradients, strict=True) if g is None]
    assert not unused


def sizes(module: nn.Module, x: torch.Tensor) -> list[tuple[int, ...]]:
    """(C, H, W) or (F,) after every convolution, pooling, flattening and linear layer."""
    out: list[tuple[int, ...]] = []
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Linear)
    for m in module.modules():
        if isinstance(m, kinds):
            m.register_forward_hook(lambda _m, _i, o: out.append(tuple(o.shape[1:])))
    with torch.no_grad():
        module.eval()(x)
    return out


def test_a_residual_network_begins_as_the_plain_one_and_its_blocks_can_learn():
    plain, deep = nets.encoder("conv", DIGIT, Z, (), 4, 4), nets.encoder("resnet", DIGIT, Z, (), 4, 4)
    strided = [m for m in deep.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    with torch.no_grad():
        for own, other in zip([*strided, deep.head[1]], [*plain.body[::2], plain.head[1]], strict=True):
            own.weight.copy_(other.weight), own.bias.copy_(other.bias)
    x = torch.rand(3, *DIGIT)
    assert torch.equal(deep(x), plain(x))
    block = next(m for m in deep.modules() if isinstance(m, Block))
    with torch.no_grad():
        block.scale.fill_(0.5)
    h = torch.randn(2, 4, 5, 5)
    first, second = block.body[1], block.body[3]
    torch.testing.assert_close(block(h), h + 0.5 * second(first(h.relu()).relu()))


# -- any size --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ENCODERS)
def test_encoder(name, shape):
    with device(name, shape):
        encoder = ENCODERS[name](shape)
        out = encoder(torch.rand(3, *shape))
    assert out.shape == (3, Z)
    assert out.is_meta or out.isfinite().all()
    check_all_learn(encoder, out)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", DECODERS)
def test_decoder(name, shape):
    with device(name, shape):
        decoder = DECODERS[name](shape)
        out = decoder(torch.randn(3, Z))
    assert out.shape == (3, *shape)
    assert out.is_meta or out.isfinite().all()
    check_all_learn(decoder, out)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", CRITICS)
def test_critic(name, shape):
    if name == "article-003" and min(shape[1:]) < 16:
        with pytest.raises(ValueError, match="16"):  # two 5x5 convolutions and two poolings leave nothing
            CRITICS[name](shape)
        return
    with device(name, shape):
        critic, x = CRITICS[name](shape), torch.rand(3, *shape)
        out = critic(x)
    assert out.shape == (3,)
    check_all_learn(critic, out)
    if out.is_meta:
        return
    assert out.isfinite().all()
    critic.eval()
    logits, features = critic.features(x)
    torch.testing.assert_close(logits, critic(x))
    torch.testing.assert_close(logits, critic.head(features)[:, 0])
    assert (features < 0).any(), "features come before the activation"


@pytest.mark.parametrize("shape", [*SHAPES, (1, 8, 100), (1, 15, 31), (1, 17, 9)], ids=str)
@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_decoder_retraces_the_encoder(shape, kernel):
    """Every size on the way up is one the encoder had on the way down, and none above 7 is left at the bottom."""
    down = [s[1:] for s in sizes(nets.ConvEncoder(shape, Z, 2, kernel), torch.rand(1, *shape)) if len(s) == 3]
    up = [s[1:] for s in sizes(nets.ConvDecoder(Z, shape, 2, kernel), torch.rand(1, Z)) if len(s) == 3]
    assert down == halvings(*shape[1:], kernel)[1:]
    assert up == [*down[-2::-1], shape[1:]]
    assert min(down[-1]) <= 7 < min([shape[1:], *down][-2])


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 7, 20)])
def test_images_too_small_to_halve(shape):
    assert nets.ConvEncoder(shape, Z, 4)(torch.rand(2, *shape)).shape == (2, Z)
    assert nets.ConvDecoder(Z, shape, 4)(torch.rand(2, Z)).shape == (2, *shape)
    assert nets.ConvCritic(shape, 4)(torch.rand(2, *shape)).shape == (2,)


def test_conv_widths_double_up_to_eightfold():
    found = sizes(nets.ConvEncoder((1, 512, 512), Z, 2), torch.rand(1, 1, 512, 512))
    assert [s[0] for s in found if len(s) == 3] == [2, 4, 8, 16, 16, 16, 16]


def test_dense_layers_before_the_convolutions_of_a_vae():
    """`wide` of the VAE and of what derives from it; without it the decoder has one linear layer."""
    for family, given in (("vae", {}), ("iwae", {}), ("cvae", {"num_classes": 10}), ("denoising-vae", {})):
        model = lf.create(family, image_shape=DIGIT, latent_dim=Z, wide=(48, 24), **given)
        widths = [layer.out_features for layer in model.decoder.head if isinstance(layer, nn.Linear)]
        assert widths == [48, 24, 64 * 7 * 7]
    plain = lf.create("vae", image_shape=DIGIT, latent_dim=Z)
    assert [type(layer).__name__ for layer in plain.decoder.head] == ["Linear"]


def test_dense_networks_by_hand():
    """ReLU between the layers of encoder and decoder, leaky ReLU of .2 in the critic; nothing at the ends."""
    shape, x, z = (2, 3, 4), torch.randn(5, 2, 3, 4), torch.randn(5, Z)

    def by_hand(module: nn.Module, h: torch.Tensor, slope: float) -> torch.Tensor:
        layers = [m for m in module.modules() if isinstance(m, nn.Linear)]
        for m in layers[:-1]:
            h = h @ m.weight.T + m.bias
            h = torch.where(h > 0, h, slope * h)
        return h @ layers[-1].weight.T + layers[-1].bias

    encoder, decoder = nets.MLPEncoder(shape, Z, (6, 7)), nets.MLPDecoder(Z, shape, (7, 6))
    critic = nets.MLPCritic(shape, (6, 7))
    torch.testing.assert_close(encoder(x), by_hand(encoder, x.flatten(1), 0.0))
    torch.testing.assert_close(decoder(z).flatten(1), by_hand(decoder, z, 0.0))
    torch.testing.assert_close(critic(x), by_hand(critic, x.flatten(1), 0.2)[:, 0])
    first, second = (m for m in critic.body if isinstance(m, nn.Linear))
    torch.testing.assert_close(critic.features(x)[1], second(nn.functional.leaky_relu(first(x.flatten(1)), 0.2)))


# -- as the articles print them --------------------------------------------------------------------------------------
def test_article_001_sizes():
    """Dense 784-100-40 with tanh on both halves; decoder 20-100-784."""
    encoder = nets.encoder("article-001", DIGIT, 40, (100,), 0, 0)
    decoder = nets.decoder("article-001", 20, DIGIT, (100,), 0, 0)
    assert sizes(encoder, torch.rand(1, *DIGIT)) == [(100,), (40,)]
    assert count(encoder) == (784 * 100 + 100) + (100 * 40 + 40)
    assert count(decoder) == (20 * 100 + 100) + (100 * 784 + 784)
    assert (encoder(100 * torch.rand(9, *DIGIT)).abs() <= 1).all()
    weight = encoder.net.layers[0].weight.detach()
    assert weight.abs().max() <= 0.2
    assert float(weight.std()) == pytest.approx(0.088, abs=0.003)  # N(0, .1^2) cut off at two deviations


def test_article_003_autoencoder_sizes():
    """28x28x1 -> 14x14x16 -> 7x7x32 -> 20 with 5x5 kernels, and back."""
    encoder, decoder = nets.encoder("conv", DIGIT, 20, (), 16, 5), nets.decoder("conv", 20, DIGIT, (), 16, 5)
    assert sizes(encoder, torch.rand(1, *DIGIT)) == [(16, 14, 14), (32, 7, 7), (20,)]
    assert sizes(decoder, torch.rand(1, 20)) == [(7 * 7 * 32,), (16, 14, 14), (1, 28, 28)]
    assert count(encoder) == (25 * 16 + 16) + (25 * 16 * 32 + 32) + (7 * 7 * 32 * 20 + 20)
    assert count(decoder) == (20 * 7 * 7 * 32 + 7 * 7 * 32) + (25 * 32 * 16 + 16) + (25 * 16 + 1)


def test_article_003_gan_sizes():
    model = lf.create("gan", image_shape=DIGIT)
    assert count(model.generator) == 100 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 784 + 784
    assert count(model.critic) == 784 * 256 + 256 + 256 * 256 + 256 + 256 + 1


def test_article_003_dcgan_sizes():
    critic, generator = published.article_003_critic(DIGIT), published.article_003_generator(100, DIGIT)
    assert sizes(critic, torch.rand(1, *DIGIT)) == [
        (32, 24, 24), (32, 12, 12), (64, 8, 8), (64, 4, 4), (1024,), (1024,), (1,),
    ]  # fmt: skip
    assert sizes(generator, torch.rand(1, 100)) == [(1024,), (7 * 7 * 128,), (64, 14, 14), (1, 28, 28)]
    assert count(critic) == 832 + 51_264 + (1024 * 1024 + 1024) + 1025
    normed = 2 * (1024 + 7 * 7 * 128 + 64)
    assert count(generator) == 103_424 + (1024 * 6272 + 6272) + (16 * 128 * 64 + 64) + (16 * 64 + 1) + normed
    assert (generator(torch.randn(9, 100)).abs() <= 1).all()


def test_article_004_vae_sizes():
    """Articles 000 and 004: 28 -> 13 -> 6 without padding; 7 -> 14 -> 28 on the way back."""
    encoder, decoder = nets.encoder("article-004", DIGIT, 4, (), 0, 0), nets.decoder("article-004", 2, DIGIT, (), 0, 0)
    assert sizes(encoder, torch.rand(1, *DIGIT)) == [(32, 13, 13), (64, 6, 6), (2304,), (4,)]
    assert sizes(decoder, torch.rand(1, 2)) == [(7 * 7 * 32,), (64, 14, 14), (32, 28, 28), (1, 28, 28)]
    assert count(encoder) == 320 + 18_496 + (2304 * 4 + 4)
    assert count(decoder) == (2 * 1568 + 1568) + 18_496 + 18_464 + 289


def test_article_004_encodes_sides_from_seven_pixels_on():
    assert published.article_004_encoder((1, 7, 7), Z)(torch.rand(2, 1, 7, 7)).shape == (2, Z)
    with pytest.raises(ValueError, match="at least 7 pixels"):
        published.article_004_encoder((1, 28, 6), Z)


def test_article_004_dcgan_sizes():
    critic, generator = published.article_004_critic(DIGIT), published.article_004_generator(2, DIGIT)
    assert sizes(critic, torch.rand(1, *DIGIT)) == [(64, 14, 14), (128, 7, 7), (128, 1, 1), (128,), (1,)]
    assert sizes(generator, torch.rand(1, 2)) == [(7 * 7 * 256,), (128, 7, 7), (64, 14, 14), (1, 28, 28)]
    assert count(critic) == 1664 + 204_928 + 129
    normed = 2 * (7 * 7 * 256 + 128 + 64)
    assert count(generator) == 2 * 7 * 7 * 256 + 25 * 256 * 128 + 25 * 128 * 64 + 25 * 64 + normed
    assert (generator(torch.randn(9, 2)).abs() <= 1).all()


def test_larsen_sizes():
    """The released 64x64 networks; the features are the raw 256x8x8 output of the last strided convolution."""
    face = (3, 64, 64)
    with torch.device("meta"):
        encoder, decoder = published.larsen_encoder(face, 256), published.larsen_decoder(128, face)
        critic, x, z = published.larsen_critic(face), torch.rand(2, *face), torch.rand(2, 128)
    assert sizes(encoder, x) == [
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (16_384,), (1024,), (256,),
    ]  # fmt: skip
    assert sizes(decoder, z) == [(16_384,), (256, 16, 16), (128, 32, 32), (32, 64, 64), (3, 64, 64)]
    assert sizes(critic, x) == [
        (32, 64, 64), (128, 32, 32), (256, 16, 16), (256, 8, 8), (16_384,), (512,), (1,),
    ]  # fmt: skip
    assert count(encoder) == 18_072_832
    assert count(decoder) == 4_709_955
    assert count(critic) == 10_955_009
    assert critic.features(x)[1].shape == (2, 256, 8, 8)


def test_dcgan_starts_as_the_paper_says():
    """Weights N(0, .02^2), no batch norm at the critic's input and the generator's output."""
    model = lf.create("dcgan", image_shape=(1, 32, 32), width=32)
    for part in (model.generator, model.critic):
        convolutions = [m for m in part.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        weights = torch.cat([m.weight.detach().flatten() for m in convolutions])
        assert float(weights.std()) == pytest.approx(0.02, rel=0.02)
    assert [type(m).__name__ for m in model.critic.body[:2]] == ["Conv2d", "LeakyReLU"]
    assert [type(m).__name__ for m in list(model.generator.modules())[-2:]] == ["ConvTranspose2d", "Tanh"]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.generator.modules()) == 3
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.critic.modules()) == 2


@pytest.mark.parametrize("name", ["article_003_critic", "article_004_critic"])
def test_articles_start_at_glorot_uniform(name):
    linear = [m for m in getattr(published, name)(DIGIT).modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for m in linear:
        inputs = m.weight[0].numel()
        outputs = m.weight.shape[0] * (m.weight[0, 0].numel() if m.weight.dim() == 4 else 1)
        limit = math.sqrt(6 / (inputs + outputs))
        assert 0.9 * limit < m.weight.abs().max() <= limit
        assert m.bias.eq(0).all()


# -- the VAE's prior -------------------------------------------------------------------------------------------------
def prior(z: int, **options):
    return lf.create("vae", image_shape=(1, 8, 8), net="mlp", hidden=(4,), latent_dim=z, **options)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((2.0,), [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]),
        ((1.0, 2.0, 3.0), [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]]),
        ((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), [[1.0, 0.0, 0.0], [2.0, 3.0, 0.0], [4.0, 5.0, 6.0]]),
    ],
)
def test_prior_scale(values, expected):
    model = prior(3, prior_scale=values, prior_mean=(0.5, -1.0, 2.0))
    scale = torch.tensor(expected)
    assert torch.equal(model.prior_scale, scale)
    z = model.draw_prior(200_000, torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(z.mean(0), torch.tensor([0.5, -1.0, 2.0]).double(), atol=0.1, rtol=0)
    torch.testing.assert_close(z.T.cov(), (scale @ scale.T).double(), atol=0.5, rtol=0.02)


def test_prior_scale_of_one_dimension():
    assert prior(1, prior_scale=(3.0,)).prior_scale.tolist() == [[3.0]]


@pytest.mark.parametrize("options", [{"prior_scale": (1.0,) * 4}, {"prior_mean": (0.0, 1.0)}, {"prior_scale": ()}])
def test_wrong_number_of_prior_numbers(options):
    with pytest.raises(ValueError, match=r"give (one, or one per dimension|numbers)"):
        prior(3, **options)


@pytest.mark.parametrize("values", [(0.0,), (1.0, -1.0, 1.0), (1.0, 5.0, -2.0, 0.0, 0.0, 1.0)])
def test_prior_scale_must_be_positive_on_its_diagonal(values):
    with pytest.raises(ValueError, match="positive"):
        prior(3, prior_scale=values)


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
@pytest.mark.parametrize("scale", [(1.0,), (0.5, 1.0, 2.0), (1.0, 0.5, 1.0, -0.3, 0.2, 0.8)])
def test_kl_of_the_vae_follows_its_prior(posterior, scale):
    """The model's KL against torch.distributions in float64, whatever the posterior and the prior."""
    torch.manual_seed(0)
    model = prior(3, posterior=posterior, prior_scale=scale, prior_mean=(0.3, 0.0, -1.0))
    q = model.encode(torch.rand(4, 1, 8, 8))
    normal = torch.distributions.MultivariateNormal
    p = normal(model.prior_mean.double(), scale_tril=model.prior_scale.double())
    expected = torch.distributions.kl_divergence(normal(q.mean.double(), scale_tril=q.tril().double()), p)
    torch.testing.assert_close(model.kl(q).double(), expected, rtol=1e-4, atol=1e-4)


# -- dropout -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("p", [0.001, 0.3, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_the_share_it_says(p):
    torch.manual_seed(0)
    layer, n = Dropout(p).train(), 400_003
    y = layer(torch.ones(n))
    kept = min(255, round(256 * (1 - p))) / 256
    error = math.sqrt(kept * (1 - kept) / n)
    assert abs((y != 0).double().mean().item() - kept) < 4 * error
    assert y[y != 0].unique().tolist() == pytest.approx([1 / kept])
    assert abs(kept - (1 - p)) <= 1 / 256


def test_dropout_draws_every_entry_on_its_own():
    """Neighbours share a random integer, and must not know of each other; nor may the bits of its bytes."""
    torch.manual_seed(0)
    m = mask(torch.empty(800_000), 128).view(-1, 8).double()
    assert (m.mean(0) - 0.5).abs().max() < 4 * 0.5 / math.sqrt(len(m))
    together = torch.corrcoef(m.T) - torch.eye(8).double()
    assert together.abs().max() < 4 / math.sqrt(len(m))


def test_dropout_in_any_layout_and_its_gradient():
    layer = Dropout(0.3).train()
    x = torch.randn(4, 6, 5, 7).to(memory_format=torch.channels_last).requires_grad_()
    y = layer(x)
    assert y.stride() == x.stride()
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, torch.where(y == 0, 0.0, 256 / 179))
    torch.testing.assert_close(y, x * grad)
    assert layer(x[:, ::2, :, 1:]).shape == (4, 3, 5, 6)  # neither layout
    assert torch.equal(layer.eval()(x), x)
    assert not torch.equal(Dropout(0.3, always=True).eval()(x), x)
    assert not Dropout(1.0).train()(x).any()


@pytest.mark.parametrize("few", [1, 3, 8])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "extra"), [(3, 1, 1, 0), (4, 2, 1, 0), (5, 2, 2, 1), (3, 2, 0, 1)]
)
def test_convolutions_and_their_first_and_second_gradients_are_torchs(few, kernel, stride, padding, extra):
    down = (Conv2d(few, 6, kernel, stride, padding), nn.Conv2d(few, 6, kernel, stride, padding), few)
    up = (
        ConvTranspose2d(6, few, kernel, stride, padding, extra),
        nn.ConvTranspose2d(6, few, kernel, stride, padding, extra),
        6,
    )
    for ours, theirs, channels in (down, up):
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(4, channels, 9, 8).to(memory_format=torch.channels_last).requires_grad_()

        def numbers(layer, x=x):
            y = layer(x)
            inputs = [x, *layer.parameters()]
            first = torch.autograd.grad(y.tanh().square().sum(), inputs, create_graph=True)
            return [y, *first, *torch.autograd.grad(first[0].square().sum(), inputs, allow_unused=True)]

        for a, b in zip(numbers(ours), numbers(theirs), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert ours(x).is_contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("few", [1, 2])
def test_convolutions_inside_torch_func(few):
    """Jacobians of a decoder, to grey images too."""
    layer, x = nn.Sequential(ConvTranspose2d(3, few, 4, 2, 1), Conv2d(few, few, 3, padding=1)), torch.randn(1, 3, 4, 4)
    expected = torch.autograd.functional.jacobian(layer, x)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(layer)(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.func.vmap(lambda z: layer(z[None])[0])(x), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_of_another_kind_are_left_to_torch(bias):
    x = torch.randn(2, 4, 8, 8)
    for options in ({"dilation": 2}, {"groups": 2}, {"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}):
        ours, theirs = Conv2d(4, 4, 3, bias=bias, **options), nn.Conv2d(4, 4, 3, bias=bias, **options)
        theirs.load_state_dict(ours.state_dict())
        assert torch.equal(ours(x), theirs(x))
    ours, theirs = ConvTranspose2d(4, 2, 3, 2, bias=bias), nn.ConvTranspose2d(4, 2, 3, 2, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x, [18, 18]), theirs(x, [18, 18]))


@pytest.mark.parametrize("channels", [1, 3])
def test_on_apples_gpu_nothing_lies_channels_last(channels, monkeypatch):
    """Or the gradients of batch norm are wrong there; a trained model's weights come channels last."""
    assert conv.layout(torch.device("cpu")) == conv.layout(torch.device("cuda")) == torch.channels_last
    assert conv.layout(torch.device("mps")) == torch.contiguous_format
    for place in (conv, game):
        monkeypatch.setattr(place, "layout", lambda device: torch.contiguous_format)
    model = lf.create("autoencoder", image_shape=(channels, 16, 16), latent_dim=Z, width=4)
    model = model.to("cpu", memory_format=torch.channels_last)
    assert all(p.is_contiguous() for p in model.parameters())
    shape = (channels, 16, 16)
    decoder, critic = nets.ConvDecoder(Z, shape, 4, norm=True), nets.ConvCritic(shape, 4, norm=True)
    seen: list[bool] = []
    for m in (*decoder.modules(), *critic.modules()):
        if isinstance(m, nn.BatchNorm2d):
            m.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].is_contiguous()))
    decoder(torch.randn(2, Z))
    critic(torch.rand(2, *shape))
    assert seen == [True] * len(seen)
    assert len(seen) > 2
