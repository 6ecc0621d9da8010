"""Bad input through the command line: one clear line that names the culprit, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentforge.cli import main
from latentforge.data.synthetic import blobs

BUDGET = ["--examples", "16", "--batch-size", "8", "--quiet"]
SMALL = ["--latent-dim", "2", "--net", "mlp", "--hidden", "4"]


def write_pictures(folder: Path, n: int = 12) -> None:
    folder.mkdir()
    for i, image in enumerate(blobs(n, (1, 8, 8))[0]):
        Image.fromarray(image[0]).save(folder / f"{i:02d}.png")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """A folder with pictures, a finished VAE, a finished GAN and an exported VAE."""
    folder = tmp_path_factory.mktemp("workshop")
    write_pictures(folder / "pics")
    data = ["--data", str(folder / "pics")]
    assert main(["train", "vae", *data, *BUDGET, *SMALL, "--out", str(folder / "run")]) == 0
    gan = ["--latent-dim", "2", "--hidden", "4", "--critic-hidden", "4"]
    assert main(["train", "gan", *data, *BUDGET, *gan, "--out", str(folder / "gan")]) == 0
    assert main(["export", str(folder / "run"), str(folder / "exported")]) == 0
    return folder


@pytest.fixture
def here(workshop, tmp_path, monkeypatch) -> Path:
    """A copy of the workshop as the working directory; its runs refer to its own pictures."""
    shutil.copytree(workshop, tmp_path, dirs_exist_ok=True)
    for config in tmp_path.glob("*/config.yaml"):
        config.write_text(config.read_text().replace(str(workshop), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refuse(capsys, arguments: list[str], *parts: str) -> str:
    """Run the command; it must end with one line that holds every part, and leave the working directory as it was."""
    before = contents(Path.cwd())
    capsys.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        code = main(arguments)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert code == 2, (out, err)
    assert len(lines) == 1, err
    assert lines[0].startswith("latentforge: ")
    assert len(lines[0]) > 30
    for part in parts:
        assert part in lines[0], lines[0]
    assert out == ""
    assert not [w for w in caught if issubclass(w.category, UserWarning)]
    after = contents(Path.cwd())
    assert sorted(after) == sorted(before)
    assert after == before
    return lines[0]


# ---- data --------------------------------------------------------------------------------------------------------


def picture(name: str, mode: str = "L", size: tuple[int, int] = (8, 8), suffix: str = ".png") -> None:
    Image.new(mode, size).save(Path("bad") / f"{name}{suffix}")


def missing():
    return "nowhere/at-all"


def misspelt_set():
    return "mnist-k5"


def empty():
    Path("bad").mkdir()


def text_as_png():
    write_pictures(Path("bad"))
    Path("bad/notes.png").write_text("this is no picture")


def truncated():
    write_pictures(Path("bad"))
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(noise).save("bad/cut.png")
    Path("bad/cut.png").write_bytes(Path("bad/cut.png").read_bytes()[:-40])


def empty_file():
    write_pictures(Path("bad"))
    Path("bad/nothing.png").touch()


def cmyk():
    write_pictures(Path("bad"))
    picture("print", "CMYK", suffix=".jpg")


def one_pixel():
    write_pictures(Path("bad"))
    picture("dot", size=(1, 1))


def mixed_sizes():
    write_pictures(Path("bad"))
    picture("large", size=(40, 20))


def too_few():
    write_pictures(Path("bad"), 3)


def single_image():
    return "pics/00.png"


def beside_classes():
    write_pictures(Path("bad"))
    write_pictures(Path("bad/cats"))


def unknown_kind():
    Path("bad.xlsx").write_bytes(b"PK")
    return "bad.xlsx"


def npz(**arrays):
    np.savez("bad.npz", **arrays)
    return "bad.npz"


def grey(n: int = 12) -> np.ndarray:
    return np.zeros((n, 8, 8), np.uint8)


def not_a_number():
    images = np.zeros((12, 8, 8), np.float32)
    images[3, 2, 1] = np.nan
    return npz(images=images)


def complex_numbers():
    return npz(images=np.zeros((12, 8, 8), np.complex64))


def strings():
    return npz(images=np.full((12, 8, 8), "a"))


def out_of_range():
    return npz(images=np.full((12, 8, 8), 3.0))


def five_axes():
    return npz(images=np.zeros((12, 8, 8, 1, 1), np.uint8))


def labels_too_long():
    return npz(images=grey(), labels=np.zeros(11, np.int64))


def float_labels():
    return npz(images=grey(), labels=np.zeros(12))


def unknown_keys():
    return npz(pictures=grey())


def objects():
    return npz(images=np.array([{"code": 1}] * 12, dtype=object))


def damaged_npz():
    npz(images=grey())
    Path("bad.npz").write_bytes(Path("bad.npz").read_bytes()[:200])
    return "bad.npz"


def damaged_parquet():
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [b"x"] * 12}), "bad.parquet")
    Path("bad.parquet").write_bytes(Path("bad.parquet").read_bytes()[:-30])
    return "bad.parquet"


def parquet_without_images():
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"price": [1.0, 2.0]}), "bad.parquet")
    return "bad.parquet"


DATA = [
    (missing, "nowhere/at-all"),
    (misspelt_set, "Did you mean 'mnist-5k'"),
    (empty, "bad", "empty"),
    (text_as_png, "notes.png", "--skip-bad"),
    (truncated, "cut.png", "--skip-bad"),
    (empty_file, "nothing.png"),
    (cmyk, "print.jpg", "CMYK"),
    (one_pixel, "dot.png", "1x1"),
    (mixed_sizes, "8x8", "20x40", "--image-size"),
    (too_few, "bad", "8"),
    (single_image, "00.png", "folder"),
    (beside_classes, "bad", "sub-folder"),
    (unknown_kind, "bad.xlsx", ".npz"),
    (not_a_number, "bad.npz", "NaN", "image 3"),
    (complex_numbers, "bad.npz", "complex64"),
    (strings, "bad.npz"),
    (out_of_range, "bad.npz", "3"),
    (five_axes, "bad.npz", "12x8x8x1x1"),
    (labels_too_long, "bad.npz", "11", "12"),
    (float_labels, "bad.npz", "float64"),
    (unknown_keys, "bad.npz", "pictures", "images"),
    (objects, "bad.npz", "objects"),
    (damaged_npz, "bad.npz"),
    (damaged_parquet, "bad.parquet"),
    (parquet_without_images, "bad.parquet", "price"),
]


@pytest.mark.parametrize(("make", "parts"), [pytest.param(m, p, id=m.__name__) for m, *p in DATA])
def test_bad_data(here, capsys, make, parts):
    source = make() or "bad"
    refuse(capsys, ["train", "vae", "--data", source, *BUDGET], *parts)
    refuse(capsys, ["data", source], *parts)


# ---- flags of train ------------------------------------------------------------------------------------------------

TRAIN = [
    ("vae --latent-dim 0", "--latent-dim 0"),
    ("vae --latent-dim -3", "--latent-dim -3"),
    ("vae --latent-dim two", "--latent-dim", "two"),
    ("vae --latentdim 2", "--latentdim", "Did you mean --latent-dim"),
    ("vae --net mlp --hidden 64,x", "--hidden", "64,x"),
    ("vae --net mlp --hidden 64,0", "--hidden 64,0"),
    ("vae --net mlp --hidden ,", "--hidden"),
    ("vae --net mlp --hidden 1.5", "--hidden", "1.5"),
    ("vae --net conf", "--net", "conf", "conv"),
    ("vae --width 0", "--width 0"),
    ("vae --kernel 0", "--kernel 0"),
    ("vae --width 1000000000", "vae cannot be built"),
    ("vae --hidden 64", "--hidden 64 changes nothing with --net conv", "leave it out"),
    ("wgan --width 8 --hidden 4", "--width 8 changes nothing with --net mlp"),
    ("vae --net mlp --hidden 4 --wide 8", "--wide 8 changes nothing with --net mlp"),
    (
        "dcgan --net article-003 --width 8 --image-size 16",
        "--width 8 changes nothing with --net article-003 --critic-net same",
    ),
    ("gan --loss hinge --smoothing 0.1", "gan cannot be built: smoothing has no meaning"),
    ("vae-gan --share 2", "vae-gan cannot be built: --share 2: give a share of the budget, from 0 to 1"),
    ("vae-gan --mix 1.5", "--mix 1.5: give a share of the codes, from 0 to 1"),
    ("vae --sigma 0", "--sigma 0"),
    ("vae --sigma nan", "--sigma nan"),
    ("vae --beta -1", "--beta -1"),
    ("vae --prior-mean 1,2,3", "prior_mean", "3 numbers"),
    ("vae --prior-scale 0", "prior_scale"),
    ("larsen-vae-gan --gamma nan", "--gamma nan"),
    ("dcgan --width 0", "--width 0"),
    ("gan --critic-hidden 8,-1", "--critic-hidden 8,-1"),
    ("gan --sampler gmm", "gan", "--sampler gmm"),
    ("vae --sampler vine", "--sampler", "flow", "gmm"),
    ("vae --lr fast", "--lr fast"),
    ("vae --lr 0", "--lr 0"),
    ("vae --lr inf", "--lr inf"),
    ("vae-gan --lr encodr=1e-3", "encodr", "Did you mean 'encoder'"),
    ("gan --lr critic=", "--lr", "critic="),
    ("vae --optimizer adamm", "--optimizer", "adamm", "adamw"),
    ("vae --schedule cosin", "--schedule", "cosin", "cosine"),
    ("vae --precision fp64", "--precision", "fp64", "bf16"),
    ("vae --weight-decay -1", "--weight-decay -1"),
    ("vae --clip 0", "--clip 0"),
    ("vae --warmup -5", "--warmup -5"),
    ("vae --ema -1", "--ema -1"),
    ("vae --checkpoint-every 0", "--checkpoint-every 0"),
    ("vae --batch-size 0", "--batch-size 0"),
    ("vae --batch-size 8 --accumulate 3", "batch size 8", "3"),
    ("vae --accumulate 0", "--accumulate 0"),
    ("vae --epochs 1", "one budget", "--epochs", "--examples"),
    ("vae --examples 0", "--examples 0"),
    ("vae --examples -8", "--examples -8"),
    ("vae --examples many", "--examples", "many"),
    ("vae --device tpu", "tpu", "cpu"),
    ("vae --device cpu:x", "cpu:x"),
    ("vae --device cuda:99", "cuda:99"),
    ("vae --image-size 0", "0", "8"),
    ("vae --image-size 8by8", "8by8", "30x46"),
    ("vae --channels 7", "7"),
    ("vae --data-seed -1", "-1"),
    ("vae --out pics", "pics", "exists"),
    ("vae --out run", "run", "latentforge resume run"),
    (f"vae --out {'x' * 300}", "xxx", "File name too long", "--out"),
    ("vae --out pics/00.png", "00.png", "exists"),
    ("vae --out pics/00.png/deep/run", "00.png", "--out"),
    ("vae --out /proc/nowhere", "/proc/nowhere", "--out"),
    ("vae --preset mnist/vea", "mnist/vea", "Did you mean 'mnist/vae'"),
    ("gan --preset mnist/vae", "mnist/vae", "train vae"),
    ("vae --small", "--small", "--preset"),
    ("vae surplus", "surplus"),
    ("vaegan", "vaegan", "Did you mean 'vae-gan'"),
    ("vae --batch-size", "--batch-size"),
]


@pytest.mark.parametrize(("typed", "parts"), [pytest.param(t, p, id=t) for t, *p in TRAIN])
def test_bad_flags_of_train(here, capsys, typed, parts):
    model, *flags = typed.split()
    refuse(capsys, ["train", model, "--data", "pics", *BUDGET, *flags], *parts)


def test_empty_out(here, capsys):
    refuse(capsys, ["train", "vae", "--data", "pics", *BUDGET, "--out", ""], "--out")


def test_bad_flags_are_refused_by_dry_run_too(here, capsys):
    for flags, part in ((["--accumulate", "0"], "--accumulate 0"), (["--width", "0"], "--width 0")):
        refuse(capsys, ["train", "vae", "--data", "pics", *BUDGET, *flags, "--dry-run"], part)


def test_flags_before_the_model(here, capsys):
    refuse(capsys, ["train", "--out", "x", "vae"], "--out", "model before")
    refuse(capsys, ["train", "--prest", "mnist/vae"], "--prest", "Did you mean --preset")
    refuse(capsys, ["train", "--preset"], "preset")


def test_tensorboard_that_is_not_installed(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [m for m in sys.modules if m.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    refuse(capsys, ["train", "vae", "--data", "pics", *BUDGET, *SMALL, "--tensorboard"], "latentforge[tensorboard]")


# ---- the other verbs -------------------------------------------------------------------------------------------------

OTHERS = [
    ("trian vae", "trian", "Did you mean 'train'"),
    ("models vea", "vea", "Did you mean 'vae'"),
    ("data pics --preview grid.jpg", "grid.jpg", ".png"),
    ("data pics --preview pics/00.png/grid.png", "pics/00.png/grid.png"),
    ("data pics --chanels 1", "--chanels", "--channels"),
    ("sample nowhere", "nowhere"),
    ("sample pics", "pics", "not a run"),
    ("sample pics/00.png", "pics/00.png", "is a file"),
    ("sample run --out samples.txt", "samples.txt", ".npz"),
    ("sample run --out pics", "pics", "exists"),
    ("sample run --out pics/00.png/x.png", "pics/00.png/x.png"),
    ("sample run --out /proc/x.png", "/proc/x.png"),
    ("sample run -n 0", "-n", "0"),
    ("sample run --sed 3", "--sed", "--seed"),
    ("sample run --seed x", "--seed", "x"),
    ("sample", "RUN"),
    ("reconstruct gan", "gan", "no encoder"),
    ("reconstruct run --out pairs.tiff", "pairs.tiff"),
    ("reconstruct exported", "exported", "--data"),
    ("embed gan", "gan", "no encoder"),
    ("embed run --out codes.csv", "codes.csv", ".npz"),
    ("embed run --data mnist-5k", "mnist-5k", "--image-size 8x8 --channels 1"),
    ("embed run --data nowhere", "nowhere"),
    ("embed run --split tets", "--split", "tets", "test"),
    ("interpolate run --path spere", "--path", "spere", "sphere"),
    ("interpolate run --steps 1", "--steps", "1"),
    ("evaluate run --split tets", "--split", "tets"),
    ("evaluate exported", "exported"),
    ("export run pics", "pics", "not an empty directory"),
    ("export run pics/00.png", "00.png"),
    ("export run /proc/x", "/proc/x"),
    ("export nowhere x", "nowhere"),
    ("report nowhere", "nowhere"),
    ("resume nowhere", "nowhere"),
    ("resume pics", "pics", "not a run", "the one that holds config.yaml"),
    ("resume run --epochs 1 --examples 32", "one budget"),
    ("resume run --examples 0", "--examples 0"),
    ("resume run --examples 8", "16", "larger"),
    ("resume run --minutes nan", "--minutes nan"),
    ("resume run --lr 1", "--lr"),
]


@pytest.mark.parametrize(("typed", "parts"), [pytest.param(t, p, id=t) for t, *p in OTHERS])
def test_bad_flags_of_other_verbs(here, capsys, typed, parts):
    refuse(capsys, typed.split(), *parts)


# ---- damaged runs and models ---------------------------------------------------------------------------------------


def edit_config(change) -> None:
    import yaml

    file = Path("run/config.yaml")
    config = yaml.safe_load(file.read_text())
    change(config)
    file.write_text(yaml.safe_dump(config))


def unfinished() -> None:
    shutil.rmtree("run/model")


def newer_run():
    edit_config(lambda c: c.update(format=99, latentforge="9.0"))


def broken_yaml():
    Path("run/config.yaml").write_text("model: [unclosed")


def binary_yaml():
    Path("run/config.yaml").write_bytes(b"\xff\xfe\x00rubbish")


def yaml_that_is_a_word():
    Path("run/config.yaml").write_text("hello")


def yaml_without_model():
    edit_config(lambda c: c.pop("model"))


def yaml_that_runs_code():
    Path("run/config.yaml").write_text("!!python/object/apply:os.mkdir ['owned']\n")


def unknown_model():
    unfinished()
    edit_config(lambda c: c["model"].update(name="vea"))


def misspelt_setting():
    unfinished()
    edit_config(lambda c: c["train"].update(batchsize=8))


def wrong_type():
    unfinished()
    edit_config(lambda c: c["train"].update(batch_size="eight"))


def misspelt_data_setting():
    unfinished()
    edit_config(lambda c: c["data"].update(image_sise=8))


def other_network():
    unfinished()
    edit_config(lambda c: c["model"].update(hidden=[5]))


def damaged_checkpoints():
    unfinished()
    for file in Path("run/checkpoints").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])


def no_checkpoint():
    unfinished()
    shutil.rmtree("run/checkpoints")


def damaged_weights():
    file = Path("run/model/model.safetensors")
    file.write_bytes(file.read_bytes()[:-10])


def json_with(**changes):
    file = Path("run/model/config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def broken_json():
    Path("run/model/config.json").write_text('{"model": "vae", ')


def json_list():
    Path("run/model/config.json").write_text("[1, 2]")


def json_unknown_model():
    json_with(model="vea")


def json_newer():
    json_with(format=99)


def json_bad_arguments():
    json_with(arguments={"image_shape": "square"})


def json_huge_network():
    json_with(arguments={"image_shape": [1, 8, 8], "hidden": [10**15], "net": "mlp"})


def json_other_network():
    json_with(arguments={"image_shape": [1, 8, 8], "hidden": [5], "net": "mlp"})


def json_of_another_version():
    known = json.loads(Path("run/model/config.json").read_text())["arguments"]
    json_with(latentforge="9.0", arguments=known | {"depth": 3})


def run_of_another_version():
    unfinished()
    edit_config(lambda c: (c.update(latentforge="9.0"), c["model"].update(depth=3)))


def json_bad_sampler():
    json_with(sampler={"kind": "flow"})


def json_without_weights():
    Path("run/model/model.safetensors").unlink()


def changed_picture():
    unfinished()
    Image.new("L", (8, 8), 255).save("pics/05.png")


def added_picture():
    shutil.copy("pics/05.png", "pics/99.png")


def from_another_system():
    edit_config(lambda c: c["data"].update(source="C:\\photos"))


def deleted_pictures():
    unfinished()
    shutil.rmtree("pics")


RUNS = [
    (newer_run, "sample run", "run", "newer", "pip install"),
    (newer_run, "resume run", "run", "newer"),
    (broken_yaml, "sample run", "config.yaml", "damaged"),
    (binary_yaml, "resume run", "config.yaml", "damaged"),
    (yaml_that_is_a_word, "evaluate run", "config.yaml", "damaged"),
    (yaml_without_model, "report run", "config.yaml", "damaged"),
    (yaml_that_runs_code, "resume run", "config.yaml", "damaged"),
    (unknown_model, "resume run", "vea", "Did you mean 'vae'"),
    (misspelt_setting, "resume run", "config.yaml", "batchsize", "Did you mean 'batch_size'"),
    (wrong_type, "resume run", "config.yaml", "--batch-size eight"),
    (misspelt_data_setting, "resume run", "config.yaml", "image_sise", "Did you mean 'image_size'"),
    (other_network, "resume run", "config.yaml"),
    (other_network, "sample run", "run", "do not fit"),
    (damaged_checkpoints, "resume run", "run", "damaged", "round-"),
    (damaged_checkpoints, "sample run", "run", "damaged"),
    (no_checkpoint, "sample run", "run", "neither a model nor a checkpoint"),
    (damaged_weights, "sample run", "damaged", "latentforge resume run"),
    (broken_json, "sample run", "config.json", "damaged"),
    (json_list, "sample run", "config.json", "damaged"),
    (json_unknown_model, "sample run", "vea"),
    (json_newer, "sample run/model", "newer"),
    (json_bad_arguments, "sample run", "square"),
    (json_huge_network, "sample run", "run/model"),
    (json_other_network, "embed run", "do not fit"),
    (json_bad_sampler, "sample run", "run/model"),
    (json_of_another_version, "sample run", "run/model (written by Latentforge 9.0, this is", "'depth'"),
    (run_of_another_version, "resume run", "run/config.yaml (written by Latentforge 9.0, this is", "'depth'"),
    (run_of_another_version, "sample run", "run (written by Latentforge 9.0, this is", "'depth'"),
    (json_without_weights, "sample run", "model.safetensors"),
    (changed_picture, "resume run", "pics", "not those"),
    (changed_picture, "evaluate run", "pics", "not those"),
    (added_picture, "evaluate run", "not those", "10+1+1 then, 11+1+1 now"),
    (from_another_system, "evaluate run", "C:\\photos", "correct data: source"),
    (deleted_pictures, "resume run", "pics"),
]


SPOILT = [pytest.param(s, t, p, id=f"{s.__name__}-{t.split()[0]}") for s, t, *p in RUNS]


@pytest.mark.parametrize(("spoil", "typed", "parts"), SPOILT)
def test_damaged_runs(here, capsys, spoil, typed, parts):
    spoil()
    refuse(capsys, typed.split(), *parts)


def test_what_the_message_advises_works(here, capsys):
    """`model/` is damaged: deleted, `resume` writes it anew from the last checkpoint, and nothing else is trained."""
    weights = Path("run/model/model.safetensors").read_bytes()
    damaged_weights()
    unfinished()
    assert main(["resume", "run", "--quiet"]) == 0
    assert Path("run/model/model.safetensors").read_bytes() == weights
