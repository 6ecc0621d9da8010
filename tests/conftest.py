"""Shared by all tests: tiny data, the same random numbers for a test whatever ran before it, and one thread in every process,
so that results do not depend on the machine's size and tests that run beside each other do not wait for each other."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from latentforge.data import Dataset, Images
from latentforge.data.synthetic import blobs
from latentforge.report import page

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the commands that tests start


def tiny_data(shape=(1, 28, 28), n: int = 80, seed: int = 0) -> Dataset:
    """A set of soft ellipses with labels: 60 % train, the rest validation and test."""
    pixels, labels = blobs(n, shape, seed)
    pixels, labels = torch.as_tensor(pixels), torch.as_tensor(labels)
    a, b = int(0.6 * n), int(0.8 * n)
    parts = [Images(pixels[s], labels[s]) for s in (slice(0, a), slice(a, b), slice(b, n))]
    return Dataset("blobs", "synthetic ellipses", *parts)


def begin_alike() -> None:
    """Global generators at a seed that no test begins from itself: what both drew would be the same."""
    torch.manual_seed(77)
    np.random.seed(77)  # noqa: NPY002


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    begin_alike()  # for fixtures that serve several tests


@pytest.fixture(autouse=True)
def same_draws():
    """What a test draws does not depend on what ran before it."""
    begin_alike()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Features trained on test data stay out of the user's cache, and requests to this machine out of its proxy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("no_proxy", "*")
        yield


LEARNED = page.learned


@pytest.fixture(scope="session", autouse=True)
def quick_pages():
    """Pages without maps of the latent space, which take seconds each; test_report.py and test_compare.py draw them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "learned", lambda run: None)
        yield


@pytest.fixture
def data() -> Dataset:
    return tiny_data()
