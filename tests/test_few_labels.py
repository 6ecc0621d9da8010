"""Few labels: how they get in, what the families descend, the estimator, and the verb end to end."""

from __future__ import annotations

import copy
import csv
import json

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import latentforge as lf
from conftest import tiny_data
from datasets import refused
from latentforge.cli import main
from latentforge.clock import Clock
from latentforge.data import Images, open_data
from latentforge.data.hide import chosen, hide_labels
from latentforge.errors import InputError
from latentforge.nets.classifier import NormedLinear
from latentforge.parts.gaussian import Diagonal
from latentforge.parts.matching import matched, unsupervised_cost
from latentforge.parts.smooth import virtual_adversarial
from latentforge.report.grid import picture, to_uint8
from latentforge.tasks.edit import told
from latentforge.tasks.scores import why_no_code
from playing import clock, feed, images

SMALL = {
    "ssl-vae": {"hidden": (24,), "classifier_hidden": (24,), "latent_dim": 3, "smooth_length": 0.5},
    "ssl-gan": {"hidden": (24,), "critic_hidden": (24, 16), "latent_dim": 3, "smooth_length": 0.5},
    "ssl-vae-gan": {"hidden": (24,), "critic_hidden": (24, 16), "latent_dim": 3, "smooth_length": 0.5},
}


# -- how labels get in -------------------------------------------------------------------------------------------------
def test_hidden_labels_are_balanced_follow_the_seed_and_are_of_training_images_alone():
    data = tiny_data(n=200)
    few = hide_labels(data, 7, seed=1)
    kept = few.train.labels >= 0
    assert int(kept.sum()) == 7
    counts = torch.bincount(few.train.labels[kept], minlength=3)
    assert counts.max() - counts.min() <= 1
    assert torch.equal(few.train.labels[kept], data.train.labels[kept])
    assert few.test.labels is data.test.labels
    assert few.num_classes == data.num_classes == 3
    assert torch.equal(few.train.labels, hide_labels(data, 7, seed=1).train.labels)
    assert not torch.equal(few.train.labels, hide_labels(data, 7, seed=2).train.labels)
    assert any("7 of 120" in note for note in few.notes)
    every = hide_labels(data, 120, seed=1)
    assert torch.equal(every.train.labels, data.train.labels)


def test_labels_are_chosen_as_a_slow_loop_would():
    """Kept results name their labels by the seed: a faster way must choose the same ones."""
    labels = torch.randint(-1, 9, (300,), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(5)
    order = [i for i in torch.randperm(300, generator=generator).tolist() if labels[i] >= 0]
    kinds = sorted({int(labels[i]) for i in order})
    ranks = torch.randperm(len(kinds), generator=generator).tolist()
    turns = {}
    for rank, kind in zip(ranks, kinds, strict=True):
        turns |= {j * len(kinds) + rank: i for j, i in enumerate(i for i in order if labels[i] == kind)}
    assert chosen(labels, 40, 5).tolist() == [turns[t] for t in sorted(turns)][:40]


@pytest.mark.parametrize("keep", [0, 2, 121])
def test_impossible_numbers_of_labels(keep):
    with pytest.raises(InputError, match=r"give 3 .* to 120"):
        hide_labels(tiny_data(n=200), keep)


def test_own_arrays_mark_unlabelled_images_with_minus_one():
    pixels = np.random.default_rng(0).integers(0, 255, (100, 8, 8), np.uint8)
    labels = np.full(100, -1)
    labels[:40] = np.arange(40) % 2 + 5
    data = open_data((pixels, labels))
    assert data.classes == ["5", "6"]
    assert len(data.train) == 92  # a tenth of the 40 labelled ones each for validation and test
    assert int((data.train.labels == -1).sum()) == 60
    assert set(data.validation.labels.tolist()) | set(data.test.labels.tolist()) == {0, 1}
    assert any("60 labels are -1" in note for note in data.notes)
    two = open_data((pixels, np.where(labels < 0, -1, 1)))  # two classes of a user who numbers them so
    assert two.classes == ["-1", "1"]
    assert two.train.labels.min() == 0


def test_a_folder_named_unlabelled(tmp_path):
    write_folders(tmp_path, {"cat": 20, "dog": 20, "unlabelled": 30})
    data = open_data(tmp_path)
    assert data.classes == ["cat", "dog"]
    assert int((data.train.labels == -1).sum()) == 30
    assert len(data.validation) == len(data.test) == 4
    assert (data.test.labels >= 0).all()


def test_families_without_use_for_unlabelled_images_say_so_or_are_told_nothing():
    few = hide_labels(tiny_data(), 6)
    with pytest.raises(InputError, match="a label for every image"):
        lf.fit("cgan", few, examples=16, batch_size=8, quiet=True, model_options={"width": 4})
    model = lf.fit("cvae", few, examples=16, batch_size=8, quiet=True, model_options={"net": "mlp", "hidden": (8,)})
    torch.testing.assert_close(model.condition.share, torch.full((3,), 1 / 3))
    for name in SMALL:
        with pytest.raises(InputError, match="label"):
            lf.fit(name, few.train.pixels.numpy(), examples=16, quiet=True)
    gone = tiny_data()
    gone.train.labels[gone.train.labels == 1] = -1
    with pytest.raises(InputError, match="class 1 has none"):
        lf.fit("ssl-gan", gone, examples=16, batch_size=8, quiet=True)


# -- what they descend -------------------------------------------------------------------------------------------------
def test_the_critic_is_a_softmax_over_k_and_one_classes():
    real, made = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()

    def whole(logits):  # log p of all K + 1, the last logit 0
        return torch.cat([logits, torch.zeros(5, 1, dtype=logits.dtype)], 1).log_softmax(1)

    t = Clock()
    t.start_round()
    expected = -0.5 * ((1 - whole(real)[:, 3].exp()).log().mean() + whole(made)[:, 3].mean())
    torch.testing.assert_close(unsupervised_cost(real, made, t), expected.float(), rtol=1e-5, atol=1e-6)


def test_weight_norm_is_that_of_torch():
    mine = NormedLinear(5, 3)
    theirs = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(5, 3))
    with torch.no_grad():
        mine.gain.copy_(torch.tensor([0.5, 1.0, 2.0]))
        theirs.parametrizations.weight.original0.copy_(mine.gain[:, None])
        theirs.parametrizations.weight.original1.copy_(mine.weight)
        theirs.bias.copy_(mine.bias)
    x = torch.randn(4, 5)
    torch.testing.assert_close(mine(x), theirs(x))


def test_features_are_matched_in_the_mean():
    a = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    assert float(matched(lambda v: v, torch.tensor([[0.0, 1.0]]), a)) == pytest.approx((2**2 + 0**2) / 2)


def test_the_adversarial_direction_is_the_worst_one():
    """Of a linear classifier of two classes the worst direction is that of its weights."""
    w = torch.tensor([[3.0, -4.0]])
    x = torch.tensor([[0.3, 0.2]]).view(1, 1, 1, 2)

    def classify(x):
        logit = x.flatten(1) @ w.T
        return torch.cat([logit, -logit], 1).log_softmax(1)

    found = virtual_adversarial(classify, x, classify(x), torch.tensor([[[[1.0, 0.2]]]]), 0.5)
    angles = torch.linspace(0, 2 * torch.pi, 1000)
    around = x + 0.5 * torch.stack([angles.cos(), angles.sin()], 1).view(-1, 1, 1, 2)
    p, q = classify(x).double(), classify(around).double()
    costs = (p.exp() * (p - q)).sum(1)
    along = [
        costs[(around - x).flatten(1).mm(w.T)[:, 0] > 0].max(),
        costs[(around - x).flatten(1).mm(w.T)[:, 0] < 0].max(),
    ]
    assert min(abs(float(found) - float(c)) for c in along) < 1e-3
    assert float(found) > 0.5 * float(costs.max())


def test_the_bound_of_m2_is_its_sum_over_classes_one_by_one():
    torch.manual_seed(0)
    model = lf.create(
        "ssl-vae", image_shape=(1, 4, 4), num_classes=3, latent_dim=2, hidden=(8,), classifier_hidden=(8,)
    )
    x, noise = torch.rand(5, 1, 4, 4), torch.randn(5, 2)
    with torch.no_grad():
        found = model.bound(x, noise)
        for k in range(3):
            q = Diagonal(*model.encoder(x, torch.full((5,), k)).chunk(2, 1))
            z = q.mean + q.stddev * noise
            p = torch.sigmoid(model.decoder(torch.cat([z, torch.eye(3)[k].expand(5, 3)], 1))).double()
            nll = -(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)
            kl = torch.distributions.kl_divergence(
                torch.distributions.Normal(q.mean, q.stddev), torch.distributions.Normal(0.0, 1.0)
            ).sum(1)
            torch.testing.assert_close(found[:, k].double(), nll + kl + np.log(3), rtol=1e-4, atol=1e-4)


QUIET = dict.fromkeys(("layer_noise", "input_noise", "shift", "smooth", "certain", "balance"), 0.0)


def quiet(name: str, **options):
    """A dense model without noise that has met 60 images, six of them labelled."""
    torch.manual_seed(0)
    model = lf.create(name, image_shape=(1, 6, 6), num_classes=3, net="mlp", **SMALL[name], **QUIET, **options)
    model.meet(hide_labels(tiny_data((1, 6, 6), n=100), 6).train)
    return model


def test_the_round_of_ssl_vae():
    """-log q(y|x) of labelled images, and beside it the bound of half of the batch: sum_y q(y|x) (L(x,y) + log q(y|x)) and,
    for the share of images that are labelled, L(x,y)."""
    model, x, t = quiet("ssl-vae", generative=0.5), images(6), clock()
    (move,) = model.play(feed(x), clock())
    known, y = model.draw_known(3, t)
    v = torch.cat([known, x[:3]])
    bound, log_q = model.bound(v, t.randn(6, 3)).double(), model.classifier(v).double().log_softmax(1)
    untold = (log_q[3:].exp() * (bound[3:] + log_q[3:])).sum(1).mean()
    told, cost = bound[:3].gather(1, y[:, None]).mean(), -log_q[:3].gather(1, y[:, None]).mean()
    assert model.known_share == 0.1
    assert move["vae"].item() == pytest.approx((cost + 0.5 * (untold + 0.1 * told)).item(), rel=1e-4)


@pytest.mark.parametrize("name", ["ssl-gan", "ssl-vae-gan"])
def test_the_rounds_of_the_two_with_a_critic(name):
    options = {"matching": 0.7} | ({"elbo": 0.4} if name == "ssl-vae-gan" else {})
    model, x, t = quiet(name, **options), images(6), clock()
    critic, rest = model.play(feed(x), clock())

    def noise(n):
        return 2 * t.rand(n, 3) - 1 if name == "ssl-gan" else t.randn(n, 3)

    known, y = model.draw_known(3, t)
    labelled, real, made = (model.critic(v).double() for v in (known, x, model.generate(noise(3))))
    d_real, d_made = (v.exp().sum(1) / (1 + v.exp().sum(1)) for v in (real, made))
    cost = -labelled.log_softmax(1).gather(1, y[:, None]).mean()
    cost = cost - 0.7 * 0.5 * (d_real.log().mean() + (1 - d_made).log().mean())
    assert float(critic["critic"]) == pytest.approx(float(cost), rel=1e-4)

    if name == "ssl-gan":
        fake, extra, players = model.generate(noise(3)), 0.0, {"generator"}
    else:
        mean, log_variance = model.encoder(x).double().chunk(2, 1)
        z = torch.cat([mean + (log_variance / 2).exp() * noise(6), noise(3)]).float()
        p = torch.sigmoid(model.decoder(z)).double()  # normed over all nine
        fake, again, grey = p[6:].float(), p[:6], x.double()
        nats = -(grey * again.log() + (1 - grey) * (1 - again).log()).sum() / 6
        nats = nats + 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum() / 6
        extra, players = 0.4 * nats / 36, {"encoder", "decoder"}
    look = model.critic.body
    gap = (look(fake).double().mean(0) - look(x).double().mean(0)).square().mean()
    assert set(rest) == players
    for loss in rest.values():
        assert float(loss) == pytest.approx(float(gap + extra), rel=1e-4)


def test_images_are_moved_and_rows_of_a_table_are_not():
    """By whole pixels, one at most of eight, with edges repeated."""
    model = lf.create("ssl-gan", image_shape=(2, 8, 8), num_classes=3, shift=1 / 8, **SMALL["ssl-gan"])
    x = torch.rand(50, 2, 8, 8)
    padded = torch.nn.functional.pad(x, [1] * 4, mode="replicate")
    places = set()
    for one, around in zip(model.moved(x, clock(1)), padded, strict=True):
        places |= {(i, j) for i in range(3) for j in range(3) if torch.equal(one, around[:, i : i + 8, j : j + 8])}
    assert len(places) == 9
    row = torch.rand(3, 1, 1, 16)
    assert model.moved(row, clock(1)) is row
    model = lf.create("ssl-gan", image_shape=(2, 8, 8), num_classes=3, shift=0, **SMALL["ssl-gan"])
    assert model.moved(x, clock(1)) is x


def test_certainty_is_asked_for_little_by_little():
    """By hand, in float64: KL to the labels' frequencies, and the entropy with a weight that is whole half-way."""
    model = lf.create("ssl-gan", image_shape=(1, 4, 4), num_classes=3, smooth=0.0, certain=0.4, balance=0.7)
    x, logits = torch.rand(5, 1, 4, 4), torch.randn(5, 3)
    p = logits.double().softmax(1)
    entropy, mean = -(p * p.log()).sum(1).mean(), p.mean(0)
    for progress, share in ((0.0, 0.0), (0.1, 0.2), (0.5, 1.0), (0.9, 1.0)):
        expected = 0.4 * share * entropy + 0.7 * (mean * (mean * 3).log()).sum()
        found = model.unlabelled_cost(x, logits, clock(progress=progress)).double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_labelled_images_alone_reach_the_cost_of_labels():
    """An unlabelled image's class, whatever it is, changes nothing."""
    few = hide_labels(tiny_data(), 6)
    model = lf.create("ssl-gan", image_shape=(1, 28, 28), num_classes=3, shift=0, **SMALL["ssl-gan"])
    model.meet(few.train)
    assert len(model.known) == 6
    t = Clock()
    t.start_round()
    image, y = model.draw_known(50, t)
    own = {
        (float(x.sum()), int(k))
        for x, k in zip(few.train.labelled()[torch.arange(6)].image, model.known.labels, strict=True)
    }
    assert {(float(x.sum()), int(k)) for x, k in zip(image, y, strict=True)} <= own


@pytest.mark.parametrize("form", ["m2", "m1+m2"])
def test_without_a_class_ssl_vae_decodes_under_its_own_guess_or_the_mean_of_all(form):
    model = lf.create("ssl-vae", image_shape=(1, 28, 28), num_classes=3, form=form, **SMALL["ssl-vae"])
    x, z = torch.rand(4, 1, 28, 28), torch.randn(4, 3)
    guess = model.classify(x).argmax(1)
    assert torch.equal(model.reconstruct(x), model.reconstruct(x, guess))
    mean = torch.stack([model.decode(z, torch.full((4,), k)) for k in range(3)]).mean(0)
    torch.testing.assert_close(model.decode(z), mean)


@pytest.mark.parametrize("name", list(SMALL))
def test_classify_reads_images_as_people_have_them(name):
    model = lf.create(name, image_shape=(1, 28, 28), num_classes=3, **SMALL[name]).eval()
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    log_p = model.classify(torch.from_numpy(images)[:, None] / 255)
    for given in (images, images / 255, torch.from_numpy(images)[:, None]):
        torch.testing.assert_close(model.classify(given), log_p)
    beyond = torch.full((2, 1, 28, 28), 1.2)  # a table's numbers may lie beyond those that it was scaled by
    assert model.classify(Images(beyond)).shape == (2, 3)
    refused(lambda: model.classify(images[:, :20]), "do not fit")


# -- whole runs --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", list(SMALL))
def test_train_and_evaluate_from_the_command_line(name, tmp_path, capsys):
    data = tiny_data(n=200)
    file, run = tmp_path / "set.npz", tmp_path / "run"
    both = [
        torch.cat([getattr(p, k) for p in (data.train, data.validation, data.test)]).numpy()
        for k in ("pixels", "labels")
    ]
    np.savez(file, images=both[0].transpose(0, 2, 3, 1), labels=both[1])
    flags = [
        f"--{k.replace('_', '-')}={','.join(map(str, v)) if isinstance(v, tuple) else v}"
        for k, v in SMALL[name].items()
    ]
    train = [
        "train",
        name,
        "--data",
        str(file),
        "--labels",
        "6",
        "--examples",
        "400",
        "--batch-size",
        "20",
        "--quiet",
        *flags,
    ]
    assert main([*train, "--labels-seed", "3", "--out", str(run)]) == 0
    assert f"next      latentforge classify {run}\n" in capsys.readouterr().err
    assert "labels: 6" in (run / "config.yaml").read_text()
    assert main(["evaluate", str(run), "--metrics", "own", "--json"]) == 0
    rows = {r["measure"]: r for r in json.loads(capsys.readouterr().out)}
    assert 0 <= rows["error"]["value"] <= 1
    assert rows["error"]["which"].startswith("1-NN on PCA")
    assert rows["error"]["images"] == 20
    model = lf.load(run)
    log_p = model.classify(torch.rand(3, 1, 28, 28))
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(3))
    assert main(["classify", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(1 - rows["error"]["value"])
    assert "rejected" not in found  # there is no density to reject by
    with open(run / "labels.csv", newline="") as f:
        lines = list(csv.DictReader(f))
    assert len(lines) == 20
    assert list(lines[0]) == ["image", "label", "class", "probability"]
    split = lf.open_data(str(file))
    verdict = lf.classify(model, split.test, split.validation)
    assert [int(r["label"]) for r in lines] == verdict.label.tolist()
    assert float(lines[0]["probability"]) == pytest.approx(float(verdict.probability[0].max()), rel=1e-4)
    assert main(["resume", str(run), "--examples", "440", "--quiet"]) == 0
    assert main([*train[:4], "--labels", "2", "--out", str(tmp_path / "none")]) == 2
    assert "--labels 2 is not possible" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_flags_for_labels_belong_to_models_that_use_them(capsys):
    assert main(["train", "vae", "--labels", "10", "--dry-run"]) == 2
    assert "labels" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(SMALL))
def test_it_learns_from_nine_labels(name):
    few = hide_labels(tiny_data(n=400), 9, seed=0)
    options = SMALL[name] | {"smooth": 0.3}
    model = lf.fit(name, few, examples=12_000, batch_size=40, quiet=True, precision="fp32", model_options=options)
    held = few.test[torch.arange(len(few.test))]
    error = float((model.classify(held.image).argmax(1) != held.label).double().mean())
    commonest = float(torch.bincount(held.label).max()) / len(held)
    assert error < 0.7 * (1 - commonest)


# -- the estimator -----------------------------------------------------------------------------------------------------
PLAIN = {"hidden": (16,), "critic_hidden": (64, 64), "smooth": 0.0, "balance": 0.0, "certain": 0.0, "layer_noise": 0.0,
         "input_noise": 0.0}  # fmt: skip
EXCEPT = {
    "check_methods_sample_order_invariance": "networks compute in float32, whose last digits depend on the batch",
    "check_methods_subset_invariance": "networks compute in float32, whose last digits depend on the batch",
    "check_classifiers_classes": "labels of -1 and 1 are a class and no label, as in sklearn.semi_supervised",
}
LEARNING = ("check_classifiers_train", "check_classifiers_classes")  # the others do not ask whether it has learned
FP32 = {"precision": "fp32"}


@parametrize_with_checks(
    [lf.SemiSupervisedClassifier(examples=30_000, model_options=PLAIN, trainer_options=FP32, random_state=0)],
    expected_failed_checks=lambda _: EXCEPT,
)  # fmt: skip
def test_it_is_a_classifier_of_scikit_learn(estimator, check):
    if check.func.__name__ not in LEARNING:
        estimator = clone(estimator).set_params(examples=400)
    check(estimator)


def test_the_estimator_names_classes_and_labels_what_had_none():
    data = tiny_data(n=200)
    x = data.train.pixels.numpy()
    words = np.array(["circle", "long", "flat"], object)[data.train.labels.numpy()]
    y = words.copy()
    y[30:] = -1
    options = SMALL["ssl-gan"] | {"smooth": 0.0}
    found = lf.SemiSupervisedClassifier(
        "ssl-gan", examples=4000, model_options=options, trainer_options=FP32, random_state=0
    ).fit(x, y)
    assert set(found.classes_) == {"circle", "long", "flat"}
    assert (found.transduction_[:30] == words[:30]).all()
    assert set(found.transduction_) <= set(found.classes_)
    proba = found.predict_proba(data.test.pixels.numpy())
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-6)
    assert (found.predict(data.test.pixels.numpy()) == found.classes_[proba.argmax(1)]).all()
    assert (
        found.score(data.test.pixels.numpy(), np.array(["circle", "long", "flat"], object)[data.test.labels.numpy()])
        > 0.4
    )
    with pytest.raises(InputError, match="take one of ssl-vae, ssl-gan, ssl-vae-gan"):
        lf.SemiSupervisedClassifier("vae").fit(x, y)
    with pytest.raises(ValueError, match="at least 2"):
        lf.SemiSupervisedClassifier().fit(x, np.full(len(x), -1))
    refused(lambda: lf.create("ssl-vae", image_shape=(1, 4, 4), num_classes=3, share=1.0), "from 0 to below 1")


def test_images_without_labels_are_left_out_of_labelled():
    images = Images(torch.rand(4, 1, 2, 2), torch.tensor([0, -1, 1, -1]))
    assert images.labelled().labels.tolist() == [0, 1]
    assert images.labelled().labelled() is not images
    whole = Images(torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))
    assert whole.labelled() is whole


@pytest.mark.parametrize("form", ["m2", "m1+m2"])
def test_codes_of_ssl_vae_are_decoded_under_the_class_it_sees(form):
    """Nobody tells it a class: edits, walks and restorations decode under its own guess."""
    torch.manual_seed(0)
    model = lf.create("ssl-vae", image_shape=(1, 8, 8), num_classes=3, form=form, **SMALL["ssl-vae"]).eval()
    x = torch.rand(5, 1, 8, 8)
    guess = model.classify(x).argmax(1)
    assert torch.equal(told(model, Images(x)), guess)
    still = lf.edit(model, x, torch.zeros(3), torch.zeros(1))[:, 0]
    torch.testing.assert_close(still, model.reconstruct(x))
    found = lf.restore(model, x, "none", steps=0, prior=0)
    error, mean = (found - x).square().mean(), (model.decode(model.encode(x).mean) - x).square().mean()
    assert error <= (model.reconstruct(x) - x).square().mean() + 1e-6  # the encoder's code is among the starts
    assert not torch.allclose(error, mean)
    assert why_no_code(model) == ""  # images are encoded without being told
    y = torch.tensor([-1, 2, 0, -1, 1])
    z = torch.randn(5, 3)
    mixed = model.decode(z, y)
    assert torch.allclose(mixed[0], model.decode(z)[0], atol=1e-6)
    assert torch.allclose(mixed[1], model.decode(z, torch.full((5,), 2))[1], atol=1e-6)


def test_a_trained_model_carries_no_training_images():
    data = tiny_data()
    model = lf.fit("ssl-gan", data, examples=20, batch_size=10, quiet=True, model_options=SMALL["ssl-gan"])
    assert not hasattr(model, "known")
    lf.fit(model, data, examples=20, batch_size=10, quiet=True)  # which it is given anew


def test_labelled_images_are_not_copied():
    data = tiny_data()
    model = lf.create("ssl-gan", image_shape=(1, 28, 28), num_classes=3, **SMALL["ssl-gan"])
    model.meet(data.train)
    assert model.known is data.train
    assert copy.deepcopy(model).known is data.train


def test_one_example_is_too_few_for_batch_norm():
    model = lf.create("ssl-gan", image_shape=(1, 28, 28), num_classes=3, **SMALL["ssl-gan"])
    refused(lambda: lf.fit(model, tiny_data(), examples=8, batch_size=2, quiet=True), "--batch-size", "batch norm")


@pytest.mark.parametrize("known", [{"cat": 1, "dog": 1}, {"cat": 1}])
def test_too_few_labelled_images_to_hold_any_out(known, tmp_path):
    write_folders(tmp_path, known | {"unlabelled": 20})
    refused(lambda: open_data(tmp_path), "label more", str(sum(known.values())))


@pytest.mark.parametrize("seed", range(4))
def test_a_class_of_one_labelled_image_is_trained_on(seed, tmp_path):
    write_folders(tmp_path, {"cat": 1, "dog": 3, "unlabelled": 20})
    data = open_data(tmp_path, seed=seed)
    assert set(data.train.labels.tolist()) == {-1, 0, 1}
    assert len(data.validation) == len(data.test) == 1


def write_folders(place, counts):
    for name, count in counts.items():
        (place / name).mkdir()
        for i, array in enumerate(to_uint8(torch.rand(count, 1, 8, 8))):
            picture(array).save(place / name / f"{i}.png")
