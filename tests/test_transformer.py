"""Encoders as scikit-learn transformers: scikit-learn's own checks, pipelines, and what goes in and comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import latentforge as lf
from conftest import tiny_data
from datasets import refused
from latentforge.data import Images
from latentforge.errors import InputError

QUICK = lf.CodeTransformer("autoencoder", latent_dim=2, model_options={"hidden": (8,)}, examples=64, random_state=0,
                           trainer_options={"batch_size": 16})  # fmt: skip


@parametrize_with_checks([QUICK])
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_a_pipeline_learns_digits_from_codes():
    """Codes of ten numbers tell digits apart about as well as ten principal components do."""
    X, y = load_digits(return_X_y=True)
    codes = lf.CodeTransformer("autoencoder", image_shape=(8, 8), latent_dim=10, examples=48_000, random_state=1,
                               model_options={"net": "mlp", "hidden": (64,)}, trainer_options={"batch_size": 32})  # fmt: skip
    pipeline = make_pipeline(codes, LogisticRegression(max_iter=2000)).fit(X[:1200], y[:1200])
    rival = make_pipeline(PCA(10, random_state=0), LogisticRegression(max_iter=2000)).fit(X[:1200], y[:1200])
    assert pipeline.score(X[1200:], y[1200:]) > rival.score(X[1200:], y[1200:]) - 0.05
    assert list(pipeline[:-1].get_feature_names_out()) == [f"codetransformer{i}" for i in range(10)]
    fitted = pipeline[0]
    again = fitted.inverse_transform(fitted.transform(X[1200:]))
    assert again.shape == (597, 64)
    assert np.square(again - X[1200:]).mean() < 0.5 * np.square(X[1200:] - X[:1200].mean(0)).mean()
    assert again.min() >= 0
    assert again.max() <= 16


@pytest.mark.parametrize("shape", [(12, 9), (12, 9, 3)])
def test_images_as_arrays_and_as_rows(shape):
    """The same images, whatever their layout, give the same codes; uint8 and its share of 255 too."""
    X = np.random.default_rng(0).integers(0, 256, (20, *shape), np.uint8)
    as_images = lf.CodeTransformer("vae", latent_dim=3, model_options={"net": "mlp", "hidden": (8,)}, examples=32,
                                   random_state=0).fit(X)  # fmt: skip
    first = X.reshape(20, 12, 9, -1).transpose(0, 3, 1, 2)
    flat, codes = first.reshape(20, -1), as_images.transform(X)
    as_rows = clone(as_images).set_params(image_shape=first.shape[1:]).fit(flat)
    assert np.allclose(codes, as_rows.transform(flat), atol=1e-5)
    assert codes.dtype == np.float32
    back = as_images.inverse_transform(codes)
    assert back.shape == X.shape
    assert back.max() > 1  # in the units of X
    assert np.allclose(back.reshape(20, 12, 9, -1).transpose(0, 3, 1, 2).reshape(20, -1), as_rows.inverse_transform(codes),
                       atol=1e-2)  # fmt: skip
    with pytest.raises(InputError, match=r"X has floats in \[0, 1\], and fit saw uint8"):
        as_rows.transform(flat / 255.0)
    with pytest.raises(InputError, match=r"X has uint8, and fit saw floats in \[0, 1\]"):
        clone(as_rows).fit(flat / 255.0).transform(flat)
    pixels = torch.from_numpy(first) / 255
    assert np.allclose(as_images.transform(X), lf.embed(as_images.model_, pixels)[0].numpy(), atol=1e-5)


def test_a_trained_run(tmp_path):
    data = tiny_data((1, 12, 9))
    model = lf.fit("vae", data, examples=32, quiet=True, model_options={"net": "mlp", "hidden": (8,), "latent_dim": 3},
                   out=tmp_path / "run")  # fmt: skip
    X = data.test.pixels[:, 0].numpy()
    expected = lf.embed(model, Images(data.test.pixels))[0].numpy()
    for source in (str(tmp_path / "run"), tmp_path / "run", model):
        codes = lf.CodeTransformer(source).fit(X)
        assert np.allclose(codes.transform(X), expected, atol=1e-6)
    floats = lf.CodeTransformer(model).fit(X / 255.0)
    assert np.allclose(floats.transform(X / 255.0), expected, atol=1e-5)
    assert floats.inverse_transform(expected).max() <= 1
    assert np.allclose(codes.inverse_transform(expected), 255 * floats.inverse_transform(expected), atol=1e-3)


def test_columns_of_numbers_keep_their_units():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1)) * [[1.0, 2.0, 3.0]] + [[1000.0, 0.0, -5.0]]
    codes = lf.CodeTransformer("autoencoder", latent_dim=2, examples=40_000, model_options={"hidden": (16,)},
                               trainer_options={"batch_size": 50}, random_state=0).fit(X)  # fmt: skip
    assert np.abs(codes.inverse_transform(codes.transform(X)) - X).mean(0) == pytest.approx(0, abs=0.5)
    assert np.isfinite(codes.transform(10 * X)).all()  # beyond the range that was seen


def test_bad_input(tmp_path):
    X = np.random.default_rng(0).random((12, 10))
    fit = lambda X=X, **options: lf.CodeTransformer(**options).fit(X)
    refused(lambda: fit(model="gan"), "no encoder")
    refused(lambda: fit(model="vea"), "vea")
    refused(lambda: fit(model="cvae"), "labels")
    refused(lambda: fit(image_shape=(3, 4)), "(3, 4)", "10 numbers")
    refused(lambda: fit(examples=3, minutes=1), "one budget")
    refused(lambda: fit(X=np.zeros((5, 2, 2, 2, 2))), "(N, H, W, C)")
    model = lf.create("vae", image_shape=(1, 2, 5), net="mlp", hidden=(4,), latent_dim=2)
    refused(lambda: fit(model=model), "do not fit")
    refused(lambda: fit(X=9 * X, model=model, image_shape=(2, 5)), "[0, 1]")
    refused(lambda: fit(model=model, image_shape=(2, 5), model_options={"beta": 2}), "trained already")
    good = lf.CodeTransformer(model, image_shape=(2, 5)).fit(X)
    with pytest.raises(ValueError, match="not \\(N, 2\\)"):
        good.inverse_transform(np.zeros((3, 4)))
