"""The doctor: its signs by hand, its rules on streams made for them, and what a run does with a finding."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import sklearn.metrics
import torch

import latentforge as lf
from conftest import tiny_data
from latentforge.cli import main
from latentforge.data import Dataset, Images
from latentforge.diagnose.doctor import Doctor
from latentforge.diagnose.rules import RULES, fits
from latentforge.diagnose.signs import of_samples, ranks_above, signs
from latentforge.errors import Collapsed, InputError, RunError
from latentforge.registry import MODELS, arguments, create, model_class
from latentforge.run import Run
from latentforge.train import Trainer

# ---- signs -------------------------------------------------------------------------------------------------------------


def test_ranks_above_is_the_area_under_the_curve():
    a, b = torch.randn(40), torch.randn(60).round(decimals=1)
    labels = np.r_[np.ones(40), np.zeros(60)]
    expected = sklearn.metrics.roc_auc_score(labels, torch.cat([a, b]).numpy())
    assert ranks_above(a, b) == pytest.approx(expected)
    assert ranks_above(torch.ones(3), torch.ones(4)) == 0.5


def test_signs_of_samples():
    g = torch.Generator().manual_seed(0)
    real, fresh, train = torch.rand(3, 200, 1, 6, 6, generator=g)
    good = of_samples(fresh, real, Images(train))
    assert good["diversity"] == pytest.approx(1, abs=0.05)
    assert good["duplicates"] == 0
    assert good["coverage"] > 0.9
    assert good["nearest"] == pytest.approx(1, abs=0.05)
    one = of_samples(fresh[:1] + 0.001 * fresh, real, Images(train))
    assert one["diversity"] < 0.01
    assert one["duplicates"] == 1
    assert one["coverage"] < 0.1
    assert of_samples(train, real, Images(train))["nearest"] == 0
    blurred = 0.5 * fresh + 0.25  # nearer to every image, seen or not
    assert of_samples(blurred, real, Images(train))["nearest"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_model_gives_signs(name):
    data = tiny_data((1, 12, 12))
    wanted = {"latent_dim": 3, "num_classes": data.num_classes}
    options = {k: v for k, v in wanted.items() if k in arguments(model_class(name))}
    model = lf.create(name, image_shape=(1, 12, 12), **options)
    state = torch.get_rng_state()
    found = signs(model, data, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert found == signs(model, data, 0)
    assert ({"diversity", "duplicates", "coverage", "nearest"} <= set(found)) == model.has_decoder
    assert ("rebuilt" in found) == ("gap" in found) == model.has_encoder
    assert all(np.isfinite(v) and v >= 0 for v in found.values())
    assert model.training


def test_too_few_images_give_no_signs():
    data = tiny_data((1, 12, 12), n=20)
    assert signs(lf.create("vae", image_shape=(1, 12, 12), latent_dim=2, net="mlp", hidden=(4,)), data, 0) == {}


# ---- rules -------------------------------------------------------------------------------------------------------------

HEALTHY_SIGNS = {"diversity": 0.95, "duplicates": 0.02, "coverage": 0.6, "nearest": 1.0, "critic_tells": 0.8,
                 "critic_knows": 0.52, "rebuilt": 0.9, "active": 0.8, "gap": 1.1}  # fmt: skip


def stream(signs_=None, bad_steps=0, **logged):
    """Rows of a run: 100 of values, which are numbers or functions of progress, and a preview every tenth."""
    values = {
        "critic_real": 0.6,
        "critic_fake": 0.6,
        "generator": 0.9,
        "gradient/generator": 1.0,
        "gradient/critic": 1.0,
    }
    values |= logged
    for i in range(1, 101):
        p = i / 100
        base = {"round": 20 * i, "examples": 1280 * i, "epoch": p, "progress": p, "seconds": p, "bad_steps": bad_steps}
        yield base | {k: v(p) if callable(v) else v for k, v in values.items() if v is not None}
        if i % 10 == 0:
            found = {k: v(p) if callable(v) else v for k, v in (HEALTHY_SIGNS | (signs_ or {})).items()}
            yield base | {f"sign/{k}": v for k, v in found.items() if v is not None}


def found_in(rows, loss="nonsaturating") -> list[str]:
    doctor = Doctor(loss)
    return [f.rule for row in rows for f in doctor.see(row)]


def test_a_healthy_stream_has_no_findings():
    assert found_in(stream()) == []


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ("mode collapse", stream({"diversity": 0.15, "coverage": 0.1})),
        ("mode collapse", stream({"duplicates": 0.7, "coverage": 0.1})),
        ("posterior collapse", stream({"active": 0.0, "rebuilt": 0.01})),
        ("dead decoder", stream({"active": None, "rebuilt": 0.001})),
        ("critic too strong", stream({"critic_tells": 1.0, "coverage": 0.2}, critic_real=0.02, critic_fake=0.02)),
        ("critic too weak", stream({"critic_tells": 0.5, "coverage": 0.01})),
        ("critic loss falls fast", stream(critic_real=lambda p: 0.001, critic_fake=lambda p: 0.001)),
        ("generator loss falls fast", stream(generator=lambda p: 0.7 if p < 0.1 else 0.02)),
        ("vanishing generator gradient", stream(**{"gradient/generator": lambda p: 1.0 if p < 0.12 else 1e-4})),
        ("oscillation", stream(generator=lambda p: 0.1 if round(100 * p) % 2 else 8.0)),
        ("memorisation", stream({"nearest": 0.1})),
        ("too few data", stream({"gap": 4.0})),
        ("too few data", stream({"critic_knows": 0.95})),
        ("not finite", stream(bad_steps=3)),
    ],
)
def test_each_rule_sees_what_it_is_for(rule, rows):
    assert rule in found_in(rows)


def test_every_rule_is_tried():
    marks = test_each_rule_sees_what_it_is_for.pytestmark[0]
    assert {case[0] for case in marks.args[1]} == set(RULES)


def test_signs_on_their_way_up_are_not_judged():
    for name, rule in (("diversity", "mode collapse"), ("rebuilt", "dead decoder")):
        low = {"active": None, "coverage": 0.1}
        assert rule in found_in(stream(low | {name: 0.01}))
        assert rule not in found_in(stream(low | {name: lambda p: 0.01 + 0.3 * p}))


def test_a_young_run_is_not_judged():
    rows = [r | {"round": r["round"] // 100} for r in stream({"nearest": 0.1})]
    assert found_in(rows) == []
    assert found_in([r | {"bad_steps": 1} for r in rows]) == ["not finite"]


def test_a_finding_is_told_once_and_remembered():
    rows = list(stream({"nearest": 0.1}))
    assert found_in(rows) == ["memorisation"]
    first = Doctor()
    half = len(rows) // 2
    told = [f for row in rows[:half] for f in first.see(row)]
    again = Doctor()
    again.recall([*rows[:half], {"round": 1, **told[0].row()}])
    assert [f for row in rows[half:] for f in again.see(row)] == []


def test_what_was_seen_counts_by_the_budget_of_now():
    """With four times the budget the run before is a quarter of it, not all."""
    rows = list(stream())
    longer = Doctor("nonsaturating")
    longer.recall(rows, examples=4 * rows[-1]["examples"])
    assert longer.history.progress == pytest.approx(0.25)
    assert max(p for p, _ in longer.history.series("generator")) == pytest.approx(0.25)
    longer.recall([{"finding": "oscillation"}], minutes=1.0)


def test_a_row_of_a_long_run_costs_no_more_than_one_of_a_short_run():
    doctor = Doctor("nonsaturating")
    rows = [r for _ in range(300) for r in stream()]  # 33,000 rows
    rows = [r | {"progress": i / len(rows), "round": 20 * i} for i, r in enumerate(rows)]
    doctor.recall(rows[:-50])
    began = time.process_time()
    for row in rows[-50:]:
        doctor.see(row)
    assert (time.process_time() - began) / 50 < 0.1


def test_remedies_in_force_are_not_told():
    told = Doctor("relativistic", model=create("vae-gan", image_shape=(1, 8, 8), net="mlp"), precision="fp32")
    assert not told.fits("use --loss nonsaturating, relativistic or wasserstein")
    assert not told.fits("use --precision fp32")
    assert told.fits("lower --lr")
    assert Doctor(model=create("gan", image_shape=(1, 8, 8), loss="hinge")).fits(
        "use --loss nonsaturating or wasserstein"
    )


def test_what_belongs_to_a_game_is_not_told():
    rows = list(stream({"diversity": 0.15, "coverage": 0.1}))
    assert found_in(rows) == ["mode collapse"]
    assert [f.rule for row in rows for f in Doctor(unworried=("mode collapse",)).see(row)] == []
    assert {rule for m in MODELS for rule in model_class(m).unworried} <= set(RULES)


def test_costs_that_are_no_cross_entropies_are_not_read_as_such():
    wasserstein = stream(critic_real=-3.0, critic_fake=2.9, generator=-2.0)
    assert found_in(wasserstein, "wasserstein") == []
    for loss in ("hinge", "least-squares"):  # never below 0 either, and 0 says nothing of ln 2
        assert found_in(stream(critic_real=0.0, critic_fake=0.0, generator=0.01), loss) == []
    assert "critic loss falls fast" in found_in(stream(critic_real=0.0, critic_fake=0.0))


def test_remedies_name_flags_that_exist():
    import re

    from latentforge.api import trainer_options

    known = set(trainer_options())
    for name in MODELS:
        known |= set(arguments(model_class(name)))
    for name, rule in RULES.items():
        for flag in re.findall(r"--([a-z0-9-]+)", rule.remedy()):
            assert flag.replace("-", "_") in known, f"{name}: --{flag}"


# ---- what a run does with a finding ---------------------------------------------------------------------------------------


def collapsing(n: int = 100) -> Dataset:
    """Images that a critic with next to no learning rate cannot guard: the generator narrows at once."""
    return tiny_data((1, 8, 8), n=n)


NARROW = {"hidden": (8,), "critic_hidden": (8,), "latent_dim": 2}
FAST = {"examples": 57_600, "batch_size": 64, "lr": "critic=1e-9,generator=0.02", "precision": "fp32", "quiet": True}


def findings(path) -> list[str]:
    return [r["finding"] for r in Run.open(path).stats() if "finding" in r]


def test_a_finding_is_shown_kept_and_on_the_page(tmp_path, capsys):
    lf.fit("gan", collapsing(), out=tmp_path / "run", model_options=NARROW, **(FAST | {"quiet": False}))
    assert "mode collapse" in findings(tmp_path / "run")
    shown = capsys.readouterr().err
    assert "warning: mode collapse: the generator covers only a small part of the data" in shown
    from latentforge.report.page import write_report

    page = write_report(Run.open(tmp_path / "run")).read_text()
    assert "What the doctor found" in page
    assert "mode collapse" in page


def test_strict_on_the_command_line_ends_with_exit_code_1(tmp_path, capsys):
    images = collapsing()
    np.savez(
        tmp_path / "few.npz", images=torch.cat([p.pixels for p in (images.train, images.validation, images.test)])[:, 0]
    )
    words = ["gan", "--data", str(tmp_path / "few.npz"), "--hidden", "8", "--critic-hidden", "8", "--latent-dim", "2"]
    budget = ["--examples", "57600", "--batch-size", "64", "--lr", "critic=1e-9,generator=0.02", "--precision", "fp32"]
    assert main(["train", *words, *budget, "--quiet", "--strict", "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("latentforge: ")
    assert not Run.open(tmp_path / "run").finished


def test_strict_ends_the_run_after_a_checkpoint(tmp_path):
    with pytest.raises(RunError, match=r": .*; "):
        lf.fit("gan", collapsing(), out=tmp_path / "run", model_options=NARROW, strict=True, **FAST)
    run = Run.open(tmp_path / "run")
    assert not run.finished
    assert (run.path / "checkpoints" / "latest").exists()
    stopped = run.load_checkpoint()[1]["round"]
    assert 30 <= stopped < 900
    told = findings(run.path)
    for _ in range(5):  # in spite of it, until the next one
        try:
            lf.resume(run.path, data=collapsing(), quiet=True)
            break
        except RunError:
            assert len(findings(run.path)) > len(told)
            told = findings(run.path)
    assert run.finished
    assert len(findings(run.path)) == len(set(findings(run.path)))


def test_stop_at_collapse(tmp_path):
    with pytest.raises(RunError, match="mode collapse"):
        lf.fit("gan", collapsing(), out=tmp_path / "run", model_options=NARROW, on_collapse="stop", **FAST)
    assert not Run.open(tmp_path / "run").finished


def test_restart_at_collapse_uses_another_seed_and_the_rest_of_the_budget(tmp_path):
    with pytest.raises(RunError, match="too little of the budget is left"):
        lf.fit("gan", collapsing(), out=tmp_path / "run", model_options=NARROW, on_collapse="restart",
               **(FAST | {"examples": 115_200}))  # fmt: skip
    run = Run.open(tmp_path / "run")
    attempts = sorted((run.path / "attempts").iterdir())
    assert len(attempts) >= 1
    assert run.config["train"]["seed"] == len(attempts)
    assert run.config["train"]["examples"] < 115_200
    for attempt in attempts:
        rows = [json.loads(line) for line in (attempt / "stats.jsonl").read_text().splitlines()]
        assert any(r.get("finding") == "mode collapse" for r in rows)
        assert (attempt / "config.yaml").exists()
    last = [r["examples"] for r in run.stats() if "finding" not in r]
    assert last == sorted(last)  # the last attempt alone
    assert last[0] <= 64
    old = [json.loads(line) for line in (attempts[-1] / "stats.jsonl").read_text().splitlines()]
    begun = [next(r["critic_real"] for r in rows if "critic_real" in r) for rows in (old, run.stats())]
    assert begun[0] != begun[1]


def test_each_attempt_has_the_minutes_that_those_before_it_left(tmp_path, monkeypatch):
    budgets = []

    def collapses_half_way(trainer):
        budgets.append(trainer.minutes)
        trainer.seconds = 30 * trainer.minutes
        raise Collapsed("mode collapse: in a test") if len(budgets) < 10 else RunError("without end")

    monkeypatch.setattr(Trainer, "fit", collapses_half_way)
    with pytest.raises(RunError, match="too little of the budget is left"):
        lf.fit("gan", tiny_data((1, 8, 8)), out=tmp_path / "run", model_options=NARROW, on_collapse="restart", minutes=5,
               quiet=True)  # fmt: skip
    assert budgets == [5, 2.5, 1.25]


def test_a_healthy_run_is_not_restarted(tmp_path):
    lf.fit("vae", tiny_data((1, 8, 8)), out=tmp_path / "run", model_options={"net": "mlp", "hidden": (8,), "latent_dim": 2},
           examples=640, on_collapse="restart", quiet=True)  # fmt: skip
    assert not (tmp_path / "run" / "attempts").exists()


def test_gradient_norms_are_kept(tmp_path):
    lf.fit("gan", tiny_data((1, 8, 8)), out=tmp_path / "run", model_options=NARROW, examples=256, quiet=True)
    rows = Run.open(tmp_path / "run").stats()
    norms = [r for r in rows if "gradient/critic" in r]
    assert norms
    assert all(r["gradient/critic"] > 0 and r["gradient/generator"] > 0 for r in norms)


def test_a_wrong_choice_is_one_line(tmp_path, capsys):
    assert main(["train", "gan", "--on-collapse", "pray", "--out", str(tmp_path / "x")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    with pytest.raises(InputError):
        lf.fit("gan", tiny_data((1, 8, 8)), on_collapse="pray", examples=64)


def test_remedies_fit_the_model():
    def told(rule, name, **options):
        model = lf.create(name, image_shape=(1, 16, 16), **options)
        return RULES[rule].remedy(lambda remedy: fits(remedy, model))

    assert "--r1" in told("critic too strong", "gan")
    assert "--r1" not in told("critic too strong", "dcgan")  # batch norm
    assert "--spectral-norm" not in told("critic too strong", "vae-gan", game="dcgan")
    assert "critic=1e-4" in told("critic too strong", "gan")
    assert "critic=1e-4" not in told("critic too strong", "vae")  # no such player
    assert "--minibatch" not in told("mode collapse", "vae")
    assert "--smoothing" not in told("critic loss falls fast", "r3gan")
    assert "--kl-warmup" in told("posterior collapse", "vae")
    assert "--free-bits" not in told("posterior collapse", "vae-gan")
    assert "--kl-warmup" not in told("posterior collapse", "iwae")
    assert "--augment" not in told("too few data", "aae")
    assert "--hidden" not in told("too few data", "vae")
    assert "--width" not in told("too few data", "vae", net="mlp")
    assert "--hidden" in told("too few data", "vae", net="mlp")
    assert "hybrid" not in told("mode collapse", "vae-gan")
    for name in MODELS:
        needs = {"num_classes": 3} if "num_classes" in arguments(model_class(name)) else {}
        needs |= {"task": "denoise"} if name == "restorer" else {}
        judged = hasattr(lf.create(name, image_shape=(1, 16, 16), **needs), "critic")
        rules = [r for r in RULES if judged or "critic" not in r]
        assert all(told(rule, name, **needs) for rule in rules), name


def test_remedies_ask_for_more_than_is_in_force():
    def told(rule, **options):
        model = lf.create("gan", image_shape=(1, 16, 16), **options)
        return RULES[rule].remedy(lambda remedy: fits(remedy, model))

    assert "--r1" in told("critic too strong", r1=0.1)
    assert "--r1" not in told("critic too strong", r1=10.0)
    assert "--minibatch" not in told("mode collapse", minibatch=16)
    assert "relativistic" not in told("mode collapse", r1=10.0)
    assert "--critic-steps" not in told("critic too weak", critic_steps=5)
    assert "penalties" not in told("critic too weak")
    assert "lower penalties" in told("critic too weak", r1=1.0)


def test_a_critic_of_codes_gives_no_signs():
    data = tiny_data((1, 12, 12), n=120)
    assert "critic_tells" not in signs(lf.create("aae", image_shape=(1, 12, 12), latent_dim=2, net="mlp"), data, 0)
    assert "critic_tells" in signs(lf.create("gan", image_shape=(1, 12, 12), latent_dim=2), data, 0)


def test_an_even_game_of_pairs_costs_half():
    rows = list(stream(critic_real=0.0, critic_fake=0.0))
    for loss, even in (("nonsaturating", "1.39"), ("relativistic", "0.69")):
        doctor = Doctor(loss)
        told = [str(f) for row in rows for f in doctor.see(row) if f.rule == "critic loss falls fast"]
        assert even in told[0]
