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


def small(**options):
    return lf.CodeTransformer("autoencoder", latent_dim=2, model_options={"net": "mlp", "hidden": (8,)}, examples=32,
                              random_state=0, **options)  # fmt: skip


@pytest.mark.parametrize("kind", ["uint16", "int8", "int64"])
def test_whole_numbers_are_scaled_as_their_floats_are(kind):
    X = np.random.default_rng(0).integers(-100 if kind == "int8" else 0, 100, (20, 6)).astype(kind)
    fitted, as_floats = small().fit(X), small().fit(X.astype(float))
    beyond = (X + np.array(1, kind))[:5]
    beyond[0, 0] = X[:, 0].min()  # below what other columns begin at
    assert np.allclose(fitted.transform(beyond), as_floats.transform(beyond.astype(float)), atol=1e-5)


def test_a_column_of_one_large_number():
    X = np.random.default_rng(0).random((20, 3), np.float32)
    X[:, 1] = 1.7e9  # seconds
    assert np.isfinite(small().fit(X).transform(X)).all()


def test_sixteen_bits_mean_what_they_meant_in_fit():
    """Whether white is 255 or 65,535 is for the images of `fit` to say, not for those of a call."""
    dark, bright = np.full((1, 12, 12), 200, np.uint16), np.full((1, 12, 12), 60_000, np.uint16)
    wide = small().fit(np.concatenate([dark, bright] * 8))
    assert np.allclose(wide.transform(dark), wide.transform(np.concatenate([dark, bright]))[:1], atol=1e-6)
    narrow = small().fit(np.concatenate([dark, dark // 2] * 8))
    assert narrow.inverse_transform(narrow.transform(dark)).max() <= 255
    refused(lambda: narrow.transform(bright), "60000", "above 255")


def test_rows_after_images_and_images_after_rows():
    X = np.random.default_rng(0).integers(0, 256, (20, 12, 9), np.uint8)
    rows = X.reshape(20, -1)
    whole = small().fit(X)
    assert np.allclose(whole.transform(rows), whole.transform(X), atol=1e-5)
    assert np.allclose(whole.transform(rows / 255), whole.transform(X), atol=1e-5)
    refused(lambda: whole.transform(rows - 300.0), "fit saw images")
    assert np.ptp(whole.inverse_transform(whole.transform(X))) > 1  # still in the units of fit
    again = small(image_shape=(12, 9)).fit(rows).fit(X)  # nothing is left of the first
    assert np.allclose(again.transform(rows), again.transform(X), atol=1e-5)
    own = small(image_shape=(12, 9)).fit(rows * 3.0 - 50)
    refused(lambda: own.transform(X), "scale of their own")
    last = np.random.default_rng(1).integers(0, 256, (20, 12, 9, 3), np.uint8)
    for colour in (last, last.transpose(0, 3, 1, 2)):  # rows have the layout of the images that fit saw
        fitted = small().fit(colour)
        assert np.allclose(fitted.transform(colour.reshape(20, -1)), fitted.transform(colour), atol=1e-5)


def test_rows_of_another_range_than_those_of_fit():
    rows = np.random.default_rng(0).random((20, 108))
    fitted = small(image_shape=(12, 9)).fit(rows)
    assert np.isfinite(fitted.transform(rows * 1.1 - 0.05)).all()  # a little beyond
    refused(lambda: fitted.transform(255 * rows), "floats in [0, 1]")
    refused(lambda: fitted.transform((255 * rows).astype(np.int64)), "floats in [0, 1]")
    trained = fitted.model_
    for estimator in (
        lf.CodeTransformer(trained, image_shape=(12, 9)),
        lf.AnomalyDetector(trained, image_shape=(12, 9)),
    ):
        refused(lambda e=estimator: e.fit((120 * rows).astype(np.int64)), "uint8, or values in [0, 1]")


def test_tensors_of_any_type():
    X = torch.rand(20, 1, 12, 9)
    fitted = small().fit(X)
    codes = fitted.transform(X)
    assert codes.dtype == np.float32
    assert np.allclose(small().fit(X.bfloat16()).transform(X), codes, atol=0.1)
    assert np.allclose(fitted.transform(X.requires_grad_()), codes)


def test_tensors_out_of_range_are_refused():
    model = lf.create("vae", image_shape=(1, 12, 9), latent_dim=2, net="mlp", hidden=(8,))
    X = torch.rand(4, 1, 12, 9)
    whole = (X * 255).round()
    assert torch.allclose(lf.embed(model, whole.long())[0], lf.embed(model, whole / 255)[0], atol=1e-6)
    refused(lambda: lf.embed(model, whole), "divide by 255")
    refused(lambda: lf.embed(model, X.where(X > 0.1, torch.nan)), "NaN")
