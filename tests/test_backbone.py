"""Backbones: input mapping, sources of weights, calibration, freezing, and the embedded network."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import hydra
import pytest
import safetensors
import timm
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from medsynth.backbone import mini, weights
from medsynth.backbone.extractor import TimmExtractor
from medsynth.backbone.network import TimmBackbone
from medsynth.contracts import Backbone, FeatureExtractor, InputError
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
        ({"model_name": "inception_v3", "image_size": 64, "enlarge": False}, "data.image_size=75 is the smallest"),
        ({"model_name": "inception_v3", "input_size": 64}, "backbone.input_size=64 .* 75 or more"),
        ({"model_name": "test_vit", "input_size": 64}, "backbone.input_size=64 .* 160"),
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


# Headless counts with running statistics as Keras counts them, i.e. without the batch counters.
@pytest.mark.parametrize(
    ("config", "num_weights", "num_features"),
    [
        ("xception", 20_861_480, 2048),
        ("mobilenet_v2", 2_257_984, 1280),
        ("resnet50", 23_561_152, 2048),
        ("mini", 308_936 + 2 * (8 + 8 + 16 + 2 * 16 + 3 * 32 + 3 * 64 + 3 * 128), 128),
    ],
)
def test_configurations(config, num_weights, num_features):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("train", overrides=[f"backbone={config}"])
    options = OmegaConf.to_container(composed.backbone, resolve=True)
    assert options.pop("_target_") == "medsynth.backbone.network.TimmBackbone"
    backbone = TimmBackbone(**options | {"channels": 1, "image_size": 32, "weights": "random"})
    state = backbone.state_dict()
    assert sum(value.numel() for key, value in state.items() if not key.endswith("num_batches_tracked")) == num_weights
    assert isinstance(backbone, Backbone)
    assert backbone.num_features == num_features
    assert backbone.freeze()(torch.zeros(2, 1, 32, 32)).shape == (2, num_features)


@pytest.mark.parametrize("model_name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext", MINI])
def test_logits_are_those_of_the_whole_network(model_name):
    backbone = build(model_name, classifier=True).eval()
    images = smooth_images(3)
    features = backbone(images)
    assert features.shape == (3, backbone.num_features)
    torch.testing.assert_close(backbone.logits(features), backbone.network(backbone._to_input(images)))


def test_frozen_backbone_stays_and_lets_gradients_through():
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


def test_calibration_standardizes_what_random_weights_see():
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
    resumed.load_state_dict(backbone.state_dict())
    images = smooth_images(4, seed=9)
    torch.testing.assert_close(resumed.eval()(images), backbone.eval()(images))


def test_calibration_leaves_everything_but_random_weights_alone(tmp_path):
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
    with pytest.raises(InputError, match=r"other weights than test_resnet's: it lacks conv1\S+, .* and has also \S+, "):
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


def test_pretrained_weights_come_from_the_cache_without_network(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_answers", lambda url: pytest.fail("asked the network"))
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


@pytest.mark.parametrize("model_name", ["test_resnet", "legacy_xception"])  # from the hub, from a URL
def test_offline_says_so_at_once(model_name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nothing listens there
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"backbone.weights=/path/to/file, or backbone.weights=random"):
        build(model_name, weights="pretrained")
    assert time.perf_counter() - start < 10


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


def test_embedded_weights_classify_fresh_phantoms_as_well_as_they_claim():
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
    phantoms, _ = Phantoms(image_size=64, anatomies=anatomies, num_images=270, num_val=2, seed=0).datasets()
    images = torch.stack([phantoms[index]["image"] for index in range(len(phantoms))])
    labels = torch.tensor([int(phantoms[index]["label"]) for index in range(len(phantoms))])
    accuracy = (extractor.logits(extractor(images)).argmax(dim=1) == labels).float().mean().item()
    # Four standard errors of a share measured on 270 images.
    margin = 4 * (record["accuracy"] * (1 - record["accuracy"]) / len(labels)) ** 0.5 + 0.01
    assert accuracy == pytest.approx(record["accuracy"], abs=margin)
