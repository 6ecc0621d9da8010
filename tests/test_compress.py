"""Compression: the coder against entropies and a slow loop, the quantiser against the decoder's Jacobian, files that are whole
or refused, both verbs end to end."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import latentforge as lf
from conftest import tiny_data
from latentforge.cli import main
from latentforge.data import Images, room
from latentforge.errors import InputError
from latentforge.game import Game
from latentforge.metrics.reconstruction import decibels
from latentforge.registry import MODELS, arguments, model_class
from latentforge.tasks import coding
from latentforge.tasks.coding import Packed, pack, unpack
from latentforge.tasks.compress import fingerprint, squared_error
from latentforge.tasks.quantise import dequantise, quantise, sensitivity, widths

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

SMALL = {"latent_dim": 5, "net": "mlp", "hidden": (16,)}


def numbers_of(n: int, sizes: np.ndarray, seed: int = 0) -> np.ndarray:
    """Columns with the given alphabets, small values likelier than large ones, both ends there."""
    rng = np.random.default_rng(seed)
    columns = [np.minimum(rng.geometric(min(1, 3 / size), n) - 1, size - 1) for size in sizes]
    out = np.stack(columns, 1).astype(np.int32)
    if n > 1:
        out[0], out[1] = 0, sizes - 1
    return out


@pytest.fixture(scope="module")
def model() -> Game:
    """An autoencoder trained for a moment, so that its code says something."""
    return lf.fit(
        "autoencoder", tiny_data(n=200), examples=4000, batch_size=20, lr=3e-3, quiet=True, model_options=SMALL
    )


@pytest.fixture(scope="module")
def held() -> Images:
    return tiny_data(n=200).test


# ---- the coder -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 2, 9, 500])
def test_numbers_come_back(n):
    sizes = np.array([2, 1, 30, 300, 1])
    numbers = numbers_of(n, sizes)
    assert np.array_equal(coding.decode(coding.encode(numbers, sizes), n, sizes), numbers)


def test_all_rows_lie_in_one_block():
    for n in (0, 1, 8, 9, 1234):
        rows = [r for block in coding.blocks(n) for r in range(block.start, block.stop)]
        assert rows == list(range(n))


def test_length_is_that_of_the_counts():
    """Against a slow loop over -log2 of the estimates; and no longer than a twentieth over the columns' entropies."""
    sizes, n = np.array([4, 40]), 3000
    numbers = numbers_of(n, sizes)
    bits = 0.0
    for block in coding.blocks(n):
        for column, size in enumerate(sizes):
            before = numbers[: block.start, column]
            for value in numbers[block, column]:
                bits -= math.log2(((before == value).sum() + 0.5) / (len(before) + size / 2))
    length = 8 * len(coding.encode(numbers, sizes))
    assert bits <= length <= bits + 64  # the coder ends on a whole word
    shares = [np.bincount(numbers[:, c]) / n for c in range(2)]
    entropy = n * sum(-(p[p > 0] * np.log2(p[p > 0])).sum() for p in shares)
    assert entropy < length < 1.05 * entropy


def sealed(data: bytes) -> bytes:
    """A changed file with the checksum it needs."""
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def test_the_format_stays():
    """Bytes written once must be read for ever, by any machine: if this fails, VERSION has to grow. Version 1 differs in what
    the fingerprint is of."""
    numbers = np.stack([np.arange(60) ** 2 % 3 - 1, np.arange(60) ** 3 % 17 - 8, np.full(60, 70)], 1).astype(np.int32)
    sheet = Packed("vae", b"12345678", (1, 5, 3), 0.03, 2.0, np.array([-128, 0, 127]), np.array([-5, 0, 9]), numbers,
                   np.arange(60) % 4 - 1, 3)  # fmt: skip
    data = pack(sheet)
    first = sealed(data[:4] + b"\1" + data[5:])
    assert hashlib.sha256(first).hexdigest()[:16] == "5fd0a38c63ca5f1c"
    for again in (unpack(data, "it"), unpack(first, "it")):
        assert (again.model, again.fingerprint, again.image_shape, again.classes) == ("vae", b"12345678", (1, 5, 3), 3)
        assert (again.unit, again.step) == (2.0, np.float32(0.03))
        for name in ("exponents", "phases", "numbers", "labels"):
            assert np.array_equal(getattr(again, name), getattr(sheet, name)), name


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**20, 2**40])
def test_varint(value):
    data = b"x" + coding.varint(value) + b"y"
    assert coding.read_varint(data, 1) == (value, len(data) - 1)


# ---- the quantiser -----------------------------------------------------------------------------------------------------
def test_sensitivity_is_that_of_the_jacobian(model, held):
    codes = lf.embed(model, held)[0]
    found = sensitivity(model, codes)
    pick = torch.linspace(0, len(codes) - 1, 32).long()
    jacobians = torch.stack([torch.func.jacfwd(lambda z: model.generate(z[None])[0])(z) for z in codes[pick]])
    assert found == pytest.approx(jacobians.square().mean((0, 1, 2, 3)).sqrt().detach().numpy(), rel=0.05)


def test_no_number_is_further_off_than_half_its_step(model, held):
    codes = lf.embed(model, held)[0].double().numpy()
    sensitive = sensitivity(model, torch.from_numpy(codes).float())
    q = quantise(codes, sensitive, 0.05)
    step = widths(q["unit"], q["exponents"])
    assert step * sensitive == pytest.approx(0.05, rel=2 ** (1 / 16) - 0.999)  # eighths of a power of two
    again = dequantise(Packed("x", bytes(8), model.image_shape, **q))
    assert (np.abs(again - codes) <= step / 2 * 1.0001).all()
    middle = codes.mean(0) / step - q["phases"] / 256
    assert np.abs(middle - np.rint(middle)).max() <= 1 / 256


def test_a_dead_number_costs_nothing():
    torch.manual_seed(0)
    model, images = lf.create("vae", image_shape=(1, 8, 8), **SMALL), torch.rand(300, 1, 8, 8)
    with torch.no_grad():
        next(iter(model.decoder.parameters()))[:, 1:4] = 0
        codes = lf.embed(model, images)[0].numpy()
    sensitive = sensitivity(model, torch.from_numpy(codes))
    assert (sensitive[1:4] == 0).all()
    assert (sensitive[[0, 4]] > 0).all()
    q = quantise(codes, sensitive, 0.001)
    assert (np.ptp(q["numbers"], 0) > 0).tolist() == [True, False, False, False, True]
    alive = {k: v[..., [0, 4]] if isinstance(v, np.ndarray) else v for k, v in q.items()}
    with_, without = (len(pack(Packed("x", bytes(8), (1, 8, 8), **n))) for n in (q, alive))
    assert with_ - without == 3 * 4  # exponent, phase, least number, reach: what the file says of each number of a code


# ---- in Python -----------------------------------------------------------------------------------------------------------
def test_a_file_holds_what_the_encoder_said(model, held, tmp_path):
    file = tmp_path / "deep" / "x.lfz"
    written = lf.compress(model, held, file, step=0.02)
    assert written.bytes == file.stat().st_size
    assert written.bits_per_pixel == pytest.approx(8 * written.bytes / (len(held) * 28 * 28))
    codes = lf.embed(model, held)[0].double().numpy()
    q = quantise(codes, sensitivity(model, torch.from_numpy(codes).float()), 0.02)
    p = unpack(file.read_bytes(), "it")
    assert np.array_equal(p.numbers, q["numbers"])
    images = lf.decompress(model, file)
    assert torch.equal(images, model.decode(torch.from_numpy(dequantise(p))))
    whole = held[torch.arange(len(held))].image
    assert squared_error(images, held) == pytest.approx(float((images - whole).square().mean()))


def test_finer_steps_cost_bits_and_buy_truth(model, held, tmp_path):
    sizes, errors = [], []
    for step in (0.3, 0.1, 0.03, 0.01, 0.002):
        sizes.append(lf.compress(model, held, tmp_path / "x.lfz", step=step).bytes)
        errors.append(squared_error(lf.decompress(model, tmp_path / "x.lfz"), held))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    whole = held[torch.arange(len(held))].image
    assert errors[-1] == pytest.approx(float((model.reconstruct(whole) - whole).square().mean()), rel=0.01)


def test_a_rate_is_kept_and_used(model, held, tmp_path):
    for rate in (0.03, 0.06):
        written = lf.compress(model, held, tmp_path / "x.lfz", bits_per_pixel=rate)
        assert 0.97 * rate < written.bits_per_pixel <= rate
    generous = lf.compress(model, held, tmp_path / "x.lfz", bits_per_pixel=1000)
    assert 0.00005 <= generous.step <= 0.0002


@pytest.mark.parametrize("name", [n for n in MODELS if model_class(n).encode is not Game.encode])
def test_every_model_with_an_encoder(name, tmp_path):
    """Colour, odd sizes; classes travel along where the model is told them."""
    torch.manual_seed(0)
    known = arguments(model_class(name))
    small = {k: v for k, v in {**SMALL, "num_classes": 3}.items() if k in known}
    model = lf.create(name, image_shape=(3, 11, 14), **small).eval()
    data = tiny_data((3, 11, 14), 40).train
    images = Images(data.pixels, data.labels % 3 if "num_classes" in known else None)
    lf.compress(model, images, tmp_path / "x.lfz", step=1e-4)
    again = lf.decompress(model, tmp_path / "x.lfz")
    batch = images[torch.arange(len(images))]
    assert torch.allclose(again, model.reconstruct(batch.image, model.labels_of(batch)), atol=0.01)
    stored, told = unpack((tmp_path / "x.lfz").read_bytes(), "it").labels, model.codes_of(images)[1]
    assert (stored is None) == (model.condition is None)
    assert stored is None or np.array_equal(stored, told.numpy())
    if name != "ssl-vae":  # which infers the class
        assert told is None or torch.equal(told, images.labels)


def test_one_image(model, held, tmp_path):
    one = held[torch.tensor([3])].image
    lf.compress(model, one, tmp_path / "x.lfz", step=0.001)
    assert torch.allclose(lf.decompress(model, tmp_path / "x.lfz"), model.reconstruct(one), atol=0.01)


def test_damage_anywhere_is_refused(model, held, tmp_path):
    file = tmp_path / "x.lfz"
    lf.compress(model, held[torch.arange(6)].image, file, step=0.05)
    good = file.read_bytes()
    for at in range(len(good)):
        file.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(InputError, match=r"x.lfz (is damaged|was not written by|was written by a newer)"):
            lf.decompress(model, file)
        file.write_bytes(good[:at])
        with pytest.raises(InputError, match=r"x.lfz"):
            lf.decompress(model, file)


def test_numbers_that_come_out_wrong_are_noticed(model, held, tmp_path, monkeypatch):
    """As they would if another version of the coder cut its intervals in another way."""
    file = tmp_path / "x.lfz"
    lf.compress(model, held, file)
    decode = coding.decode
    monkeypatch.setattr(coding, "decode", lambda *a: decode(*a) + np.eye(len(held), 5, dtype=np.int32))
    with pytest.raises(InputError, match="come out wrong"):
        lf.decompress(model, file)


@pytest.mark.parametrize(("at", "new"), [(19, b"\xff" * 4), (23, b"\xff" * 4), (40 + 11 + 10, b"\xff" * 9)])
def test_what_was_made_to_harm_is_refused(model, held, tmp_path, monkeypatch, at, new):
    """Its checksum is right: numbers of images and of the code, and how far a number reaches, are not."""
    file = tmp_path / "x.lfz"
    lf.compress(model, held, file)
    data = file.read_bytes()
    monkeypatch.setattr(room, "available_memory", lambda: 2**30)
    file.write_bytes(sealed(data[:at] + new + data[at + len(new) :]))
    with pytest.raises(InputError, match=r"x\.lfz"):
        lf.decompress(model, file)


def test_a_coder_that_refuses_the_words_is_another_version(model, held, tmp_path, monkeypatch):
    lf.compress(model, held, tmp_path / "x.lfz")

    def refuses(*given):
        raise AssertionError("invalid for the entropy model")

    monkeypatch.setattr(coding, "decode", refuses)
    with pytest.raises(InputError, match="this version of constriction"):
        lf.decompress(model, tmp_path / "x.lfz")


def test_more_classes_than_a_file_holds_are_not_the_fault_of_the_step():
    sheet = Packed("vae", bytes(8), (1, 8, 8), 0.03, 1.0, np.zeros(1), np.zeros(1), np.zeros((2, 1), np.int32),
                   np.array([0, 70_000]), 100_000)  # fmt: skip
    with pytest.raises(InputError, match="70,001 numbers; a file holds 65,536"):
        pack(sheet)


def test_a_file_opens_where_the_class_has_gained_an_argument(model, held, tmp_path):
    """As in a later version; one of version 1 too, whose fingerprint is of the arguments as well."""
    file = tmp_path / "x.lfz"
    lf.compress(model, held, file)
    data, images = file.read_bytes(), lf.decompress(model, file)
    model.save_pretrained(str(tmp_path / "kept"))
    later = lf.load(tmp_path / "kept")
    later.args["depth"] = 3
    for written in (data, sealed(data[:4] + b"\1" + fingerprint(model, model.args) + data[13:])):
        file.write_bytes(written)
        assert torch.allclose(lf.decompress(later, file), images, atol=1e-5)


def test_only_the_same_model_opens_a_file(model, held, tmp_path):
    file = tmp_path / "x.lfz"
    lf.compress(model, held, file)
    model.save_pretrained(str(tmp_path / "kept"))
    assert torch.allclose(lf.decompress(lf.load(tmp_path / "kept"), file), lf.decompress(model, file), atol=1e-5)
    other = lf.load(tmp_path / "kept")
    with torch.no_grad():
        next(other.decoder.parameters()).view(-1)[7] += 1e-3
    assert fingerprint(other) != fingerprint(model)
    with pytest.raises(InputError, match="another model, a autoencoder"):
        lf.decompress(other, file)


def test_what_cannot_be(model, held, tmp_path):
    file = tmp_path / "x.lfz"
    gan = lf.create("gan", image_shape=(1, 28, 28), latent_dim=2, hidden=(4,), critic_hidden=(4,))
    told = lf.create("cvae", image_shape=(1, 28, 28), descriptor_mean=(0.0,), descriptor_stddev=(1.0,), **SMALL)
    cases = [
        (gan, held, {}, "no encoder"),
        (told, Images(held.pixels, torch.zeros(len(held), 1)), {}, "descriptors"),
        (model, torch.rand(4, 1, 20, 28), {}, "do not fit"),
        (model, held[torch.arange(0)].image, {}, "no images"),
        (model, held, {"step": 0.1, "bits_per_pixel": 0.1}, "one of them"),
        (model, held, {"step": 0.0}, "above 0"),
        (model, held, {"step": math.nan}, "above 0"),
        (model, held, {"step": 1e-9}, "too small"),
        (model, held, {"bits_per_pixel": -1.0}, "above 0"),
        (model, held, {"bits_per_pixel": 1e-4}, "are the least"),
    ]
    for game, images, options, words in cases:
        with pytest.raises(InputError, match=words):
            lf.compress(game, images, file, **options)
        assert not any(tmp_path.iterdir())


# ---- the verbs -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    data = tiny_data(n=60)
    np.savez(folder / "d.npz", images=data.train.pixels.numpy()[:, 0], labels=data.train.labels.numpy())
    budget = ["--data", str(folder / "d.npz"), "--examples", "64", "--batch-size", "16", "--quiet", "--latent-dim", "3"]
    mlp = ["--net", "mlp", "--hidden", "8"]
    assert main(["train", "cvae", *budget, *mlp, "--out", str(folder / "cvae")]) == 0
    assert main(["train", "vae", *budget, *mlp, "--out", str(folder / "vae")]) == 0
    assert main(["train", "gan", *budget, "--hidden", "4", "--critic-hidden", "4", "--out", str(folder / "gan")]) == 0
    return folder


def test_verbs_end_to_end(runs, tmp_path, capsys):
    file = tmp_path / "x.lfz"
    capsys.readouterr()
    command = ["compress", str(runs / "cvae"), "--split", "train", "--step", "0.001", "--out", str(file), "--json"]
    assert main(command) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["bytes"] == file.stat().st_size
    assert row["psnr_db"] == pytest.approx(decibels(row["mse"]))
    assert main(["decompress", str(runs / "cvae"), str(file)]) == 0
    with np.load(tmp_path / "x-decoded.npz") as arrays, np.load(runs / "d.npz") as given:
        images, labels = arrays["images"], arrays["labels"]
        assert len(images) == row["images"]
        assert set(labels) <= set(given["labels"])
    model, data = lf.load(runs / "cvae"), lf.open_data(str(runs / "d.npz"))
    assert np.array_equal(labels, data.train.labels.numpy())
    again = model.reconstruct(data.train[torch.arange(len(data.train))].image, data.train.labels)
    assert np.abs(images[..., 0] / 255 - again[:, 0].numpy()).max() < 0.02
    assert main(["decompress", str(runs / "cvae"), str(file), "--out", str(tmp_path / "grid.png")]) == 0
    assert main(["compress", str(runs / "vae"), "--bits-per-pixel", "0.5", "--out", str(tmp_path / "y.lfz")]) == 0
    assert "psnr_db" in capsys.readouterr().out


def test_a_run_that_holds_a_file_is_not_trained_on(runs, tmp_path, capsys):
    """Its model, the only one that opens the file, would go."""
    run = shutil.copytree(runs / "vae", tmp_path / "vae")
    assert main(["compress", str(run)]) == 0
    assert main(["resume", str(run), "--examples", "128", "--quiet"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert all(part in said for part in ("images.lfz", "latentforge export", "move the file"))
    assert main(["decompress", str(run), str(run / "images.lfz")]) == 0
    shutil.rmtree(run / "model")  # as if it had been stopped before its end
    assert main(["resume", str(run), "--quiet"]) == 2
    assert "move the file" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "parts"), [
    ("compress gan", ("gan", "no encoder")),
    ("compress nowhere", ("nowhere",)),
    ("compress vae --out x.zip", ("x.zip", ".lfz")),
    ("compress vae --step 0", ("step 0",)),
    ("compress vae --step .1 --bits-per-pixel 1", ("one of them",)),
    ("compress vae --bits-per-pixel 1e-6", ("least",)),
    ("compress vae --step fast", ("--step", "fast")),
    ("decompress vae missing.lfz", ("missing.lfz",)),
    ("decompress vae d.npz", ("d.npz", "compress")),
    ("decompress vae cvae.lfz", ("cvae.lfz", "another model")),
    ("decompress cvae cvae.lfz --out x.gif", ("x.gif",)),
])  # fmt: skip
def test_bad_usage_is_one_line(runs, tmp_path, monkeypatch, capsys, words, parts):
    lf.compress(lf.load(runs / "cvae"), lf.open_data(str(runs / "d.npz")).test, runs / "cvae.lfz")
    monkeypatch.chdir(runs)
    before = sorted(runs.rglob("*"))
    capsys.readouterr()
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert all(part in err for part in parts), err
    assert sorted(runs.rglob("*")) == before


def test_without_the_extra(model, held, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(InputError, match=r"latentforge\[codec\]"):
        lf.compress(model, held, tmp_path / "x.lfz")
    assert not any(tmp_path.iterdir())


# ---- the benchmark -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("colours", [1, 3])
def test_a_sheet_comes_apart(colours):
    import compress

    images = np.random.default_rng(0).integers(0, 256, (11, 28, 9, colours), np.uint8)
    for block in (1, 16):
        laid, back = compress.sheet(images, block)
        assert laid.shape == (3 * (28 if block == 1 else 32), 4 * (9 if block == 1 else 16), colours)
        assert np.array_equal(back(laid), images)
        _, again = compress.saved(laid, format="png")
        assert np.array_equal(back(again), images)


def test_the_benchmark_measures_and_says_so(tmp_path, monkeypatch):
    import compress

    monkeypatch.setattr(compress, "QUALITIES", (5, 50, 95))
    monkeypatch.setattr(compress, "STEPS", (0.0005, 0.002, 0.05))
    data = tiny_data(n=120)
    assert "Not measured yet" in compress.table("mnist", tmp_path)
    for codec in compress.CODECS:
        result = compress.measure("mnist", codec, None, data, results=tmp_path)
        assert result["points"][0]["bytes"] > 0
    text = compress.table("mnist", tmp_path)
    assert text.count("\n| ") >= len(compress.CODECS)
    assert "Without loss" in text
    one, sheet = (json.loads((tmp_path / f"mnist-{c}.json").read_text())["points"] for c in ("webp", "webp-sheet"))
    assert min(p["bits_per_pixel"] for p in sheet) < min(p["bits_per_pixel"] for p in one)


def test_points_between_settings():
    import compress

    points = [{"setting": i, "bytes": 1, "bits_per_pixel": b, "mse": e} for i, (b, e) in
              enumerate([(0.1, 0.1), (0.3, 0.01), (0.2, 0.2), (0.4, 0.02)])]  # fmt: skip
    assert compress.frontier(points) == [(0.1, 10.0), (0.3, 20.0)]
    assert compress.at(points, 0.2) == pytest.approx(15.0)
    assert compress.at(points, 0.05) is None
    assert compress.at(points, 9.0) == 20.0
