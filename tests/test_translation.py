"""Tasks of translation: the steps against the same steps by hand, networks, measures, refusals, runs."""

import copy
import re

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from torch.nn.functional import softplus

from medsynth.configuration import combinations
from medsynth.configuration.choices import choices_with
from medsynth.configuration.compose import compose
from medsynth.contracts import InputError, Intensity, counter_seed
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.patch import PatchDiscriminator
from medsynth.generator.resnet_translator import ResNetTranslator
from medsynth.generator.trained import load_generator, load_translator
from medsynth.generator.unet import UNetTranslator
from medsynth.lightning.sample_grid import translations
from medsynth.loss.non_saturating import NonSaturating
from medsynth.metrics.paired import copied, paired_measures
from medsynth.paired_translation import PairedTranslation
from medsynth.reconstruction.l1 import L1
from medsynth.reconstruction.l2 import L2
from medsynth.regression import Regression
from medsynth.report.measures import kind_of
from medsynth.report.summary import summary_text
from tests.command import run
from tests.test_gan import Images, PixelMean, descend, fit, transfer, weights
from tests.test_resume import assert_same, stop_at

HU = Intensity(-1000.0, 400.0, "HU")


class Pairs(Images):
    """Pairs of smooth images, the source a shifted copy with other contrast, with masks."""

    intensity = source_intensity = HU
    source_channels = 1

    def items(self):
        sources = -0.8 * self.images.roll(1, dims=3)
        masks = (self.images > -0.5).float()
        return [
            {"image": s, "target": t, "mask": m, "index": i}
            for i, (s, t, m) in enumerate(zip(sources, self.images, masks, strict=True))
        ]

    def batches(self, count):
        items = self.items()
        return [
            {
                name: torch.stack([item[name] for item in items[start : start + 8]])
                for name in ("image", "target", "mask")
            }
            for start in range(0, 8 * count, 8)
        ]

    calibration_batches = batches


class PlainTranslator(nn.Module):
    """One convolution of the source and of a map of noise."""

    latent_dim, source_channels = 2, 1

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, source, z=None):
        maps = z[:, :, None, None].expand(-1, -1, *source.shape[2:])
        return torch.tanh(self.convolution(torch.cat([source, maps], dim=1)))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def regression(**options):
    torch.manual_seed(5)
    l1, l2 = L1(weight=2.0, outside=0.0), L2(weight=3.0, outside=0.0)
    settings = {"reconstructions": {"l1": l1, "l2": l2}, "max_images": 16}
    return Regression(generator=PlainTranslator(), generator_optimizer=sgd, metrics=PixelMean(), **settings | options)


def translation(**options):
    torch.manual_seed(5)
    discriminator = DCGANDiscriminator(image_size=16, channels=2, width=8, normalization="none")
    settings = {
        "discriminator": discriminator,
        "reconstructions": {"l1": L1(weight=2.0, outside=0.0)},
        "loss": NonSaturating(),
        "penalties": {},
        "max_images": 16,
    }
    return PairedTranslation(
        generator=PlainTranslator(),
        generator_optimizer=sgd,
        discriminator_optimizer=sgd,
        metrics=PixelMean(),
        **settings | options,
    )


def masked_mean(values, mask):
    return ((values * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))).mean()


def noise_of_step(step):
    torch.manual_seed(counter_seed("step", 0, 8 * step, 0))
    return torch.randn(8, 2)


def test_two_steps_of_regression_are_descents_on_the_distance_in_the_foreground():
    model, data = regression(), Pairs()
    generator = copy.deepcopy(model.generator)
    fit(model, data)
    for step, batch in enumerate(data.batches(2)):
        error = generator(batch["image"], noise_of_step(step)) - batch["target"]
        loss = 2 * masked_mean(error.abs(), batch["mask"]) + 3 * masked_mean(error.square(), batch["mask"])
        descend(loss, list(generator.parameters()))
    torch.testing.assert_close(weights(model.generator), weights(generator), rtol=1e-5, atol=1e-7)
    assert model.generator_updates == model.steps == 2


@pytest.mark.parametrize("conditional", [True, False])
def test_two_steps_of_paired_translation_are_those_of_pix2pix(conditional):
    """Isola et al. 2017, equation 4, with the generator's loss that is used in its place."""
    discriminator = None if conditional else transfer()
    model = translation(
        conditional_on_source=conditional, **({} if discriminator is None else {"discriminator": discriminator})
    )
    data = Pairs()
    generator, judge = copy.deepcopy(model.generator), copy.deepcopy(model.discriminator)
    fit(model, data)

    def seen(images, source):
        return judge(torch.cat([images, source], dim=1) if conditional else images)

    judge.calibrate([batch["target"] for batch in data.batches(8)] if not conditional else [])
    trained = [p for p in judge.parameters() if p.requires_grad]
    for step, batch in enumerate(data.batches(2)):
        source, target = batch["image"], batch["target"]
        made = generator(source, noise_of_step(step))
        descend(softplus(-seen(target, source)).mean() + softplus(seen(made.detach(), source)).mean(), trained)
        for parameter in trained:  # a head that is not trained keeps its statistics too
            parameter.requires_grad_(False)
        loss = softplus(-seen(made, source)).mean() + 2 * masked_mean((made - target).abs(), batch["mask"])
        descend(loss, list(generator.parameters()))
        for parameter in trained:
            parameter.requires_grad_(True)
    torch.testing.assert_close(weights(model.discriminator), weights(judge), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(weights(model.generator), weights(generator), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("make", [regression, translation])
def test_microbatches_do_not_change_the_mathematics(make):
    whole, divided = make(), make(accumulate=4)
    for model in (whole, divided):
        fit(model, Pairs())
    torch.testing.assert_close(weights(whole.generator), weights(divided.generator), rtol=1e-4, atol=1e-6)


def test_validation_measures_the_average_and_the_source_copied_unchanged():
    model, data = regression(max_images=8), Pairs()
    trainer = fit(model, data, limit_val_batches=None)
    items = data.items()[:20]
    source, target, mask = (torch.stack([item[name] for item in items]) for name in ("image", "target", "mask"))
    output = model.sample(model.validation_noise(20), None, source)
    for name, images in (("mae", output), ("copy_mae", source)):
        expected = masked_mean((images - target).abs(), mask).item() * 700
        assert trainer.callback_metrics[f"val/{name}"].item() == pytest.approx(expected, rel=1e-4)
    assert "val/ssim" in trainer.callback_metrics
    assert "val/ms_ssim" not in trainer.callback_metrics  # 16 pixels have no five scales
    assert trainer.callback_metrics["val/distance"] > 0  # the metrics of generation, with targets as real images


def test_data_without_targets_is_refused_in_one_sentence():
    with pytest.raises(InputError, match="needs data with targets: choose data=paired_folder"):
        fit(regression(), Images())


# ---- measures --------------------------------------------------------------------------------------------------------


def test_measures_are_those_of_scikit_image():
    generator = torch.Generator().manual_seed(1)
    output, target = torch.rand(2, 3, 1, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1
    values = paired_measures(output, target, None, HU)
    for number in range(3):
        hu, wanted = (HU.to_physical(images[number, 0]).numpy() for images in (output, target))
        assert values["mae"][number].item() == pytest.approx(np.abs(hu - wanted).mean())
        assert values["mse"][number].item() == pytest.approx(np.square(hu - wanted).mean())
        assert values["psnr"][number].item() == pytest.approx(peak_signal_noise_ratio(wanted, hu, data_range=1400))
        similarity = structural_similarity(
            hu + 1000, wanted + 1000, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1400
        )
        assert values["ssim"][number].item() == pytest.approx(similarity, abs=1e-6)


def test_measures_see_the_foreground_alone_and_know_no_value_of_an_empty_one():
    target = torch.zeros(2, 1, 192, 192)
    mask = torch.zeros(2, 1, 192, 192)
    mask[0, :, 40:80, 40:80] = 1
    outside = target + (1 - torch.nn.functional.max_pool2d(mask, 13, 1, 6))  # beyond the windows of its pixels too
    values = paired_measures(outside, target, mask, HU)
    assert values["mae"][0] == values["mse"][0] == 0
    assert values["psnr"][0] == 100
    assert values["ssim"][0].item() == pytest.approx(1)
    assert values["ms_ssim"][0].item() == pytest.approx(1)
    assert all(value[1].isnan() for value in values.values())
    inside = paired_measures(target + mask / 2, target, mask, HU)
    assert inside["mae"][0] == 350
    assert inside["ssim"][0] < 0.99


def test_the_source_copied_keeps_its_physical_values_where_units_agree():
    source = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)  # a slice between its neighbors
    same = copied(source, channels=1, source_intensity=HU, intensity=HU)
    assert torch.equal(same, torch.zeros(1, 1, 2, 2))
    wider = copied(source, channels=1, source_intensity=Intensity(-1000.0, 2000.0, "HU"), intensity=HU)
    torch.testing.assert_close(wider, torch.ones(1, 1, 2, 2))  # 500 HU, beyond the targets' range
    narrower = copied(source, channels=1, source_intensity=Intensity(-1000.0, 0.0, "HU"), intensity=HU)
    torch.testing.assert_close(narrower, torch.full((1, 1, 2, 2), -500 / 700 + 1 - 1.0 + 3 / 7 - 0.0))
    other = copied(source, channels=1, source_intensity=Intensity(0.0, 900.0, "signal"), intensity=HU)
    assert torch.equal(other, torch.zeros(1, 1, 2, 2))


# ---- networks --------------------------------------------------------------------------------------------------------


def count(network):
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def test_networks_of_the_papers_have_the_numbers_of_weights_of_the_authors_programs():
    with torch.device("meta"):
        unet = UNetTranslator(image_size=256, channels=3, source_channels=3, width=64, normalization="batch")
        residual = ResNetTranslator(image_size=256, channels=3, source_channels=3, width=64)
    patch = PatchDiscriminator(image_size=256, channels=6, width=64, normalization="batch")
    assert count(unet) == pytest.approx(54.414, abs=1e-3)
    assert count(residual) == pytest.approx(11.378, abs=1e-3)
    assert count(patch) == pytest.approx(2.769, abs=1e-3)


@pytest.mark.parametrize(
    "network",
    [
        lambda **o: UNetTranslator(image_size=32, channels=2, width=4, **o),
        lambda **o: UNetTranslator(image_size=24, channels=2, width=4, levels=2, normalization="batch", **o),
        lambda **o: ResNetTranslator(image_size=32, channels=2, width=4, blocks=2, **o),
    ],
    ids=["unet", "shallow unet", "resnet"],
)
def test_translators_have_their_contracts_shapes(network):
    torch.manual_seed(0)
    plain, noisy = network(source_channels=3), network(source_channels=3, latent_dim=4)
    size = 24 if len(getattr(plain, "down", [])) == 2 else 32
    source = torch.rand(2, 3, size, size) * 2 - 1
    assert plain(source).shape == (2, 2, size, size)
    assert plain(source).abs().max() <= 1
    maps = plain.encoding(source)
    assert tuple(tensor.shape[1] for tensor in maps) == plain.encoding_channels
    assert torch.equal(maps[0], source)
    noisy.eval()
    z = torch.randn(2, 4)
    assert torch.equal(noisy(source), noisy(source, torch.zeros(2, 4)))
    assert torch.equal(noisy(source, z), noisy(source, z))
    assert not torch.equal(noisy(source, z), noisy(source, -z))


def test_the_encoding_is_what_the_translation_is_made_of():
    torch.manual_seed(0)
    network = ResNetTranslator(image_size=16, channels=1, source_channels=1, width=4, blocks=6)
    seen = []
    for module in (network.halve1, network.halve2, network.blocks[0], network.blocks[4]):
        module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    source = torch.rand(1, 1, 16, 16)
    network(source)
    inside, seen[:] = list(seen), []
    for ours, theirs in zip(network.encoding(source)[1:], inside, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", [UNetTranslator, ResNetTranslator])
def test_a_residual_translator_begins_with_the_slice_itself(kind):
    torch.manual_seed(0)
    network = kind(image_size=16, channels=1, source_channels=3, width=4, residual=True)
    source = torch.rand(2, 3, 16, 16) * 1.6 - 0.8
    assert torch.equal(network(source), source[:, 1:2])
    for options, words in (({"output": "tanh"}, "tanh would change"), ({"channels": 4}, "3 channels")):
        with pytest.raises(InputError, match=words):
            kind(**{"image_size": 16, "channels": 1, "source_channels": 3, "residual": True} | options)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (UNetTranslator, {"image_size": 30}, "multiple of 4"),
        (UNetTranslator, {"levels": 5}, "from 2 to 4"),
        (UNetTranslator, {"normalization": "group"}, "choose of instance, batch, none"),
        (UNetTranslator, {"dropout": 1.0}, "from 0 to less than 1"),
        (ResNetTranslator, {"image_size": 18}, "multiple of 4"),
        (ResNetTranslator, {"blocks": 0}, "1 or more"),
        (ResNetTranslator, {"output": "relu"}, "clamp or tanh"),
    ],
)
def test_options_of_translators_out_of_range_are_refused(kind, options, words):
    with pytest.raises(InputError, match=words):
        kind(**{"image_size": 16, "channels": 1, "source_channels": 1} | options)


def test_scales_see_halved_images_and_weigh_the_same():
    torch.manual_seed(0)
    network = PatchDiscriminator(image_size=64, channels=2, layers=2, width=4, normalization="none", scales=3)
    images = torch.rand(2, 2, 64, 64)
    logits = network(images)
    fine, coarser, coarsest = network, network.coarser, network.coarser.coarser
    means = []
    for scale in (fine, coarser, coarsest):
        means.append(scale.logit(scale.layers(images), None).relu().mean())
        images = nn.functional.avg_pool2d(images, 3, 2, 1, count_include_pad=False)
    torch.testing.assert_close(logits.relu().mean(), torch.stack(means).mean())
    assert coarsest.coarser is None
    assert [maps.shape[2] for maps in network.activations((torch.rand(1, 2, 64, 64),))] == [15, 7, 3]
    for options, words in (({"scales": 0}, "1 or more"), ({"scales": 4}, "choose fewer layers")):
        with pytest.raises(InputError, match=words):
            PatchDiscriminator(**{"image_size": 32, "channels": 1, "layers": 2} | options)


# ---- commands --------------------------------------------------------------------------------------------------------

TINY = (
    *("data=phantom_pairs", "data.image_size=16", "data.source.num_images=40", "data.source.num_val=12"),
    *("data.source.num_test=0", "trainer.accelerator=cpu", "trainer.precision=32-true", "generator.width=4"),
    *("max_images=96", "val_every_images=48", "trainer.log_every_n_steps=1", "report=false"),
)
TASKS = {
    "regression": ("task=regression", "generator.latent_dim=2", "generator.dropout=0.5", "generator.levels=3"),
    "paired_translation": (
        *("task=paired_translation", "discriminator=vision_aided", "augment=translation_cutout"),
        *("discriminator.width=4", "discriminator.trained.width=4", "reconstruction=[l1,ssim]"),
    ),
}
STEPS = {"regression": Regression, "paired_translation": PairedTranslation}


@pytest.mark.slow  # by default that of task=unpaired_translation, which has a pool of images beside
@pytest.mark.parametrize("task", ["paired_translation", pytest.param("regression", marks=pytest.mark.slow)])
def test_resumed_runs_are_bit_for_bit_the_same(task, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [*TINY, *TASKS[task], "task.accumulate=2"]
    assert run(monkeypatch, capsys, *options, "hydra.run.dir=whole")[0] == 0
    arguments = [*options, "hydra.run.dir=stopped"]
    for images, validating in ((40, False), (48, True)):
        with monkeypatch.context() as patch:
            stop_at(patch, images, 15, validating=validating, step=STEPS[task])
            code, _, err = run(monkeypatch, capsys, *arguments)
        assert f"Stopped after {images} images" in err
        arguments = ["resume=stopped"]
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert code == 0, err
    assert_same(tmp_path / "stopped", tmp_path / "whole")
    assert "medsynth translate run=stopped" in out
    assert (tmp_path / "whole" / "samples" / "translated.png").is_file()
    with pytest.raises(InputError, match="medsynth translate run=whole"):
        load_generator("whole")
    translator = load_translator("whole")
    assert translator.translate(torch.zeros(2, 1, 16, 16)).shape == (2, 1, 16, 16)
    assert (translator.channels, translator.source_channels, translator.image_size) == (1, 1, 16)
    assert translator.intensity.unit == "HU"
    if task == "regression":
        samples = [translator.translate(torch.zeros(1, 1, 16, 16), sample=number) for number in (0, 1, 0)]
        assert torch.equal(samples[0], samples[2])
        assert not torch.equal(samples[0], samples[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["task=regression", "generator=dcgan"], "translates images: choose generator=unet"),
        (["generator=unet"], "makes them of noise: choose task="),
        (["task=paired_translation", "conditional=true"], "whose condition is the source"),
        (["task=paired_translation", "discriminator.packing=2"], "images of different sources"),
        (["task=paired_translation", "generator_penalty=mode_seeking"], "generator_penalty=mode_seeking compares"),
        (["reconstruction=l1"], "reconstruction= has no effect on task=synthesis"),
        (["task=regression", "augment=diffaugment"], "augment= has no effect on task=regression"),
        (["task=paired_translation", "task.conditional_on_source=yes"], "choose auto, true or false"),
        (
            ["task=paired_translation", "discriminator=projected", "task.conditional_on_source=true"],
            "trained from pixels",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_choices_that_do_not_go_with_a_translation_are_refused(options, words, monkeypatch):
    monkeypatch.setattr(combinations, "choices_with", lambda group, *_: {"task": ["a", "b"]}.get(group, ["unet"]))
    config = compose("train", options)
    with pytest.raises(InputError, match=re.escape(words)):
        combinations.check_combinations(config)


@pytest.mark.slow
def test_the_suggested_choices_exist():
    assert choices_with("generator", "source_channels") == ["resnet_translator", "unet"]
    assert {"paired_translation", "regression"} <= set(choices_with("task", "source_channels"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["task=regression", "data=phantom"], "the data has no targets: choose data=paired_folder"),
        (
            ["task=paired_translation", "discriminator.layers=1", "generator.source_channels=3"],
            "generator.source_channels=3 is not that of",
        ),
        (["task=paired_translation", "discriminator.layers=1", "objective=val/fid"], "objective=val/fid is not logged"),
        (["task=regression", "reconstruction=none"], "choose reconstruction=l1"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_data_and_options_that_do_not_suit_a_translation_are_refused(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = TINY if "data=phantom" not in options else [option for option in TINY if "data=phantom_pairs" not in option]
    code, _, err = run(monkeypatch, capsys, *tiny, *options)
    assert code == 1
    assert words in err


# ---- pictures and words ----------------------------------------------------------------------------------------------


def test_the_picture_shows_source_target_output_and_error_one_below_the_other():
    source, target = torch.full((3, 3, 8, 8), -1.0), torch.full((3, 1, 8, 8), 0.5)
    source[:, 1] = 0.0  # the slice itself, between its neighbors
    output = target.clone()
    output[1] -= 0.25
    picture = translations(source, target, output, paired=True)
    rows = picture.split([16 + 10] * 4, dim=1)
    inside = [[row[0, 16 + 5, 1 + 9 * column + 4].item() for column in range(3)] for row in rows]
    expected = [[0.5] * 3, [0.75] * 3, [0.75, 0.625, 0.75], [0.0, 0.5, 0.0]]  # 1 / 8 of the range is half of white
    assert inside == pytest.approx(np.array(expected), abs=1e-6)
    assert translations(source, target, output, paired=False).shape[1] == 3 * 26


def test_the_measures_of_pairs_have_a_group_of_their_own():
    assert kind_of("val/mae").title == "Mean absolute error"
    assert kind_of("val/copy_psnr").title == "PSNR, source copied"
    assert kind_of("val/ms_ssim").group == "translation"
    assert kind_of("ms_ssim").group == "diversity"  # of generated images, in medsynth evaluate


def test_the_closing_text_compares_with_the_source_copied():
    summary = {
        "files": {},
        "metrics": {"val/mae": 6.0, "val/num_fake": 4, "val/num_real": 4},
        "best": {"objective": "val/mae", "value": 6.0, "images_seen": 10},
        "seconds": 1,
        "trained": "",
        "data": "",
        "images_seen": 10,
        "images_per_second": 1,
        "precision": "",
        "peak_memory_gib": 0,
        "next": "",
    }
    for copied_value, words in ((10.0, "has 10: the best is 40% less"), (5.0, "has 5: the best is 20% more")):
        assert f"baseline   the source copied unchanged {words}" in summary_text({**summary, "copied": copied_value})
    assert "copied" not in summary_text(summary)
