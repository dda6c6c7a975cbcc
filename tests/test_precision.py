"""Formats of computing: the first steps agree with float32, and what the device or the mathematics lack is refused.

Accumulation, bounds of gradients and torch.compile stand in test_gan.py.
"""

import logging

import pytest
import pytorch_lightning as pl
import torch

from medsynth.contracts import InputError
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.generator.dcgan import DCGANGenerator
from medsynth.lightning import precision as formats
from medsynth.lightning.precision import check_compiler, final_precision, set_tf32
from medsynth.loss.hinge import Hinge
from medsynth.penalty.r1 import R1
from tests.command import TINY, run
from tests.test_gan import fit, gan, transfer, weights

STEPS = 4


class Values(pl.Callback):
    """What each step returned, by name."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        self.steps.append({name: float(value) for name, value in outputs.items()})


def convolutional(**options):
    torch.manual_seed(3)
    networks = {
        "generator": DCGANGenerator(image_size=16, channels=1, width=8),
        "discriminator": DCGANDiscriminator(image_size=16, channels=1, width=8, normalization="none"),
    }
    return gan(**networks | options, max_images=8 * STEPS)


def steps(precision="32-true", **options):
    """(the model after four steps, what each of them returned), of convolutions with batch normalization."""
    values = Values()
    model = convolutional(**options)
    fit(model, precision=precision, callbacks=[values], limit_val_batches=0)
    return model, values.steps


OPTIONS = {
    "plain": {},
    "penalty": {"penalties": {"r1": R1(gamma=0.1, interval=1)}},
    "clipped": {"gradient_clip_norm": 1e-2, "loss": Hinge()},
    "microbatches": {"accumulate": 2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_bfloat16_agrees_with_float32(options):
    """Losses, penalties and gradient norms of four steps to 3 %, which is four roundings of bfloat16's 2^-7."""
    exact_model, exact = steps(**options)
    model, values = steps("bf16-mixed", **options)
    for step, (ours, theirs) in enumerate(zip(values, exact, strict=True)):
        for name in theirs:
            assert ours[name] == pytest.approx(theirs[name], rel=0.03, abs=0.03), (step, name)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not torch.equal(weights(model.generator), weights(exact_model.generator)), "bfloat16 was not at work"


def test_steps_in_bfloat16_have_the_direction_of_those_in_float32():
    """The change of all weights over four steps points the same way: cosine above 0.98 for each network."""
    (exact, _), (reduced, _) = steps(), steps("bf16-mixed")
    for network in ("generator", "discriminator"):
        before = weights(getattr(convolutional(), network))
        first, second = (weights(getattr(model, network)) - before for model in (exact, reduced))
        assert torch.cosine_similarity(first, second, dim=0) > 0.98, network


def test_channels_last_changes_rounding_alone():
    (plain, _), (last, _) = steps(), steps(channels_last=True)
    kernel = next(weight for weight in last.generator.parameters() if weight.dim() == 4 and weight.shape[1] > 1)
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    for network in ("generator", "discriminator"):
        torch.testing.assert_close(
            weights(getattr(last, network)), weights(getattr(plain, network)), rtol=1e-3, atol=1e-5, msg=network
        )


def test_frozen_features_in_bfloat16_and_channels_last():
    """The first step to 2 %; later ones drift apart, as plain descent on these features is not stable."""
    first = []
    for precision, channels_last in (("32-true", False), ("bf16-mixed", True)):
        torch.manual_seed(1)
        first.append(steps(precision, discriminator=transfer(), channels_last=channels_last)[1][0])
    for name in ("discriminator_loss", "generator_loss", "generator_gradient_norm"):
        assert first[1][name] == pytest.approx(first[0][name], rel=0.02), name


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["trainer.precision=16-true"], ["trainer.precision=16-true", "scaler", "bf16-mixed"]),
        (["trainer.precision=bf16-true"], ["bf16-true", "bfloat16 can tell apart", "bf16-mixed"]),
        (["trainer.precision=double"], ["trainer.precision=double", "32-true"]),
        (["trainer.sync_batchnorm=true"], ["trainer.sync_batchnorm=true", "GPUs"]),
        (["task.accumulate=9"], ["task.accumulate=9", "8 images", "data.batch_size=8"]),
        (["max_images=65"], ["max_images=65", "1 images", "multiple of data.batch_size=8"]),
        (["++tf32=true"], ["tf32=true", "compute capability 8.0"]),
    ],
    ids=lambda value: str(value[0]),
)
def test_refused_in_one_sentence(monkeypatch, capsys, tmp_path, options, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, *options)
    assert code == 1
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


@pytest.fixture
def gpu(monkeypatch):
    """As on a machine with one; returns how to say whether it computes in bfloat16, of which capability it is."""

    def be(bfloat16, capability):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield be
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_bfloat16_on_a_gpu_without_it_is_refused(gpu):
    gpu(False, (7, 0))
    with pytest.raises(
        InputError, match=r"trainer.precision=bf16-mixed needs .* Tesla V100 is not: choose 16-mixed or"
    ):
        final_precision("bf16-mixed", "auto")
    assert final_precision("auto", "auto") == "32-true"
    with pytest.raises(InputError, match=r"tf32=true needs a GPU of compute capability 8\.0"):
        set_tf32(True, "auto")


def test_tensorfloat_is_on_where_asked_for_and_off_again_for_the_next_job(gpu):
    gpu(True, (8, 0))
    assert final_precision("auto", "auto") == "bf16-mixed"
    set_tf32(True, "auto")
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (True, True)
    set_tf32(False, "auto")
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (False, False)


def test_bfloat16_on_a_cpu_without_it_is_said_to_be_slow(monkeypatch, caplog):
    monkeypatch.setattr(formats, "_computes_in_bfloat16", lambda is_gpu: False)
    with caplog.at_level(logging.WARNING):
        assert final_precision("bf16", "cpu") == "bf16-mixed"
    assert "emulates bfloat16" in caplog.text


def test_compiling_needs_a_compiler_and_names_what_stays_as_it_is(monkeypatch, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"task.compile=true needs .* no-such-compiler .* set CXX"):
        check_compiler("cpu", [])
    monkeypatch.setenv("CXX", "true")
    with caplog.at_level(logging.INFO):
        check_compiler("cpu", ["r1"])
    assert "penalty=r1" in caplog.text
