"""Discriminators on a backbone, and that of DCGAN: features and head, trained parameters, labels, calibration."""

import copy

import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torch.nn.functional import relu, softplus

from medsynth.contracts import Backbone, Discriminator, InputError, Scheduled
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.grid import GridDiscriminator
from medsynth.discriminator.patch import PatchDiscriminator
from medsynth.discriminator.projected import LevelDiscriminator, ProjectedDiscriminator, Projection, enlarged_size
from medsynth.discriminator.transfer import TransferDiscriminator
from medsynth.discriminator.vision_aided import VisionAidedDiscriminator
from tests.test_conf import compose


class TinyBackbone(nn.Module):
    """A stand-in with the backbone's contract: stages of convolution, batch normalization, ReLU; 6 pooled features.

    Each stage is a level; a ``stride`` of 1 everywhere makes maps of equal size, as a vision transformer does.
    """

    num_features = 6
    model_name = "tiny"
    weights_description = "random"

    def __init__(self, *, strides=(1, 2)):
        super().__init__()
        self.channels = [1, *range(7 - len(strides), 7)]
        stages = [
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())
            for inputs, outputs, stride in zip(self.channels[:-1], self.channels[1:], strides, strict=True)
        ]
        for stage in stages:
            nn.init.constant_(stage[1].weight, 8.0)  # so that features differ by about 1 from image to image
        self.layers = nn.Sequential(*stages, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        self.except_stages = None
        self.calibrated_on = 0

    def forward(self, images):
        return self.layers(images)

    def calibrate(self, batches):
        self.calibrated_on = sum(map(len, batches))

    def freeze(self, *, except_stages=0):
        self.except_stages = except_stages
        self.requires_grad_(except_stages is None)
        if except_stages:
            self.layers[self.num_frozen() :].requires_grad_(True)
        return self.eval()

    def num_frozen(self):
        return len(self.channels) - 1 - self.except_stages

    def frozen_part(self, images):
        if self.except_stages is None:
            return (images,)
        return (self.layers[: self.num_frozen()](images) if self.except_stages else self.layers(images),)

    def trained_part(self, features):
        (maps,) = features
        if self.except_stages is None:
            return self.layers(maps)
        return self.layers[self.num_frozen() :](maps) if self.except_stages else maps

    def level_channels(self, count):
        count = len(self.channels) - 1 if count is None else count
        if count > len(self.channels) - 1:
            raise InputError(f"discriminator.levels={count} is more than backbone tiny has.")
        return tuple(self.channels[-count:])

    def levels(self, images, count):
        maps = []
        for stage in self.layers[:-1]:
            images = stage(images)
            maps.append(images)
        return tuple(maps[-count:])

    def train(self, mode=True):
        return super().train(False)


def dcgan(**options):
    return DCGANDiscriminator(image_size=16, channels=1, width=8, normalization="none", **options)


def transfer(**options):
    return TransferDiscriminator(backbone=TinyBackbone(), **options)


def projected(strides=(1, 2, 2), second=None, levels=3, **options):
    return ProjectedDiscriminator(
        backbone=TinyBackbone(strides=strides),
        second_backbone=TinyBackbone(strides=second) if second else None,
        image_size=16,
        channels=1,
        levels=levels,
        width=4,
        **options,
    )


def grid(**options):
    return GridDiscriminator(
        backbone=TinyBackbone(), image_size=16, channels=1, **{"levels": 2, "width": 8, "positions": 4} | options
    )


def vision_aided(trained=None, warmup_images=0, num_classes=0, **options):
    return VisionAidedDiscriminator(
        trained=trained or dcgan(num_classes=num_classes),
        backbone=TinyBackbone(strides=(1, 2)),
        image_size=16,
        channels=1,
        width=8,
        warmup_images=warmup_images,
        num_classes=num_classes,
        **options,
    )


BUILDS = {
    "dcgan": dcgan,
    "frozen": transfer,
    "last stage": lambda **options: transfer(unfreeze=1, **options),
    "fine-tuned": lambda **options: transfer(unfreeze="all", **options),
    "grid": grid,
    "grid, linear": lambda **options: grid(width=0, spectral=False, **options),
    "projected": projected,
    "two backbones": lambda **options: projected(second=(2, 1, 1), **options),
    "vision-aided": vision_aided,
}
COLUMNS = {"grid": 2, "grid, linear": 2, "projected": 3 * 25, "two backbones": 6 * 25, "vision-aided": 4}


def trained_names(discriminator):
    return {name for name, parameter in discriminator.named_parameters() if parameter.requires_grad}


def test_the_backbone_stays_in_evaluation_mode():
    class Trainable(TinyBackbone):
        train = nn.Module.train

    discriminator = TransferDiscriminator(backbone=Trainable(), unfreeze="all").train()
    assert discriminator.training
    assert discriminator.norm.training
    assert not any(module.training for module in discriminator.backbone.modules())


def test_tiny_backbone_fulfills_the_contract():
    images = torch.randn(4, 1, 16, 16)
    for stages in (0, 1, 2, None):
        backbone = TinyBackbone().freeze(except_stages=stages)
        assert isinstance(backbone, Backbone)
        torch.testing.assert_close(backbone(images), backbone.trained_part(backbone.frozen_part(images)))


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("name", BUILDS)
def test_forward_is_head_after_features(name, num_classes):
    discriminator = BUILDS[name](num_classes=num_classes).eval()
    assert isinstance(discriminator, Discriminator)
    images = torch.randn(4, 1, 16, 16)
    labels = torch.tensor([0, 1, 2, 0]) if num_classes else None
    logits = discriminator(images, labels)
    assert logits.shape == (4, COLUMNS.get(name, 1))
    features = discriminator.features(images)
    assert isinstance(features, tuple)
    torch.testing.assert_close(logits, discriminator.head(features, labels))


@pytest.mark.parametrize("name", BUILDS)
def test_label_enters_by_projection(name):
    discriminator = BUILDS[name](num_classes=3).eval()
    for module in discriminator.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
    images = torch.randn(2, 1, 16, 16)
    first = discriminator(images, torch.tensor([0, 0]))
    second = discriminator(images, torch.tensor([1, 1]))
    assert (first != second).all(), "it enters every column"


@pytest.mark.parametrize("name", BUILDS)
def test_parameter_groups_hold_the_trained_parameters_and_change(name):
    discriminator = BUILDS[name](num_classes=3).train()
    groups = [parameter for group in discriminator.parameter_groups() for parameter in group["params"]]
    trained = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in groups} == {id(parameter) for parameter in trained}
    assert len(groups) == len(trained)
    discriminator.calibrate([torch.randn(16, 1, 16, 16)])
    state = {key: value.clone() for key, value in discriminator.state_dict().items()}
    optimizer = torch.optim.Adam(discriminator.parameter_groups(), lr=0.01)
    for _ in range(2):
        labels = torch.arange(8) % 3
        real, fake = discriminator(torch.randn(8, 1, 16, 16), labels), discriminator(torch.rand(8, 1, 16, 16), labels)
        (softplus(-real).mean() + softplus(fake).mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {key for key, value in discriminator.state_dict().items() if not torch.equal(value, state[key])}
    buffers = {key for key, _ in discriminator.named_buffers()}
    # Statistics of heads; those of frozen parts must stay.
    statistics = {key for key in buffers if key.startswith(("norm.", "discriminators.", "heads."))}
    assert moved - statistics == trained_names(discriminator)


@pytest.mark.parametrize("name", ["projected", "two backbones", "vision-aided", "frozen", "grid"])
def test_gradient_reaches_the_images_through_the_frozen_part(name):
    discriminator = BUILDS[name]()
    discriminator.calibrate([torch.randn(16, 1, 16, 16)])
    images = torch.randn(2, 1, 16, 16, requires_grad=True)
    for feature in discriminator.features(images):
        (gradient,) = torch.autograd.grad(feature.square().sum(), images, retain_graph=True)
        assert (gradient.flatten(1).abs().sum(dim=1) > 0).all()


# ---- transfer --------------------------------------------------------------------------------------------------------


def test_frozen_backbone_trains_one_parameter_per_feature():
    discriminator = transfer().train()
    trained = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == 6
    assert discriminator.has_frozen_features


def test_unfreezing_trains_the_last_stages_at_a_lower_rate():
    images = torch.randn(2, 1, 16, 16)
    for unfreeze, stages, shape in (
        (1, {"1"}, (2, 5, 16, 16)),
        (2, {"0", "1"}, images.shape),
        ("all", {"0", "1"}, images.shape),
    ):
        discriminator = transfer(unfreeze=unfreeze, backbone_lr_factor=0.25).train()
        names = {name.split(".")[2] for name in trained_names(discriminator) if name.startswith("backbone")}
        assert names == stages
        (features,) = discriminator.features(images)
        assert features.shape == shape
        assert discriminator.has_frozen_features == (unfreeze == 1), "where all stages are trained, nothing is"
        head, backbone = discriminator.parameter_groups()
        assert head.get("lr_factor", 1) == 1
        assert backbone["lr_factor"] == 0.25
        assert [id(parameter) for parameter in head["params"]] == [id(discriminator.logit.linear.weight)]
        assert len(backbone["params"]) == 4 * len(stages)
    assert len(transfer().parameter_groups()) == 1


def test_transfer_has_as_many_parameters_as_the_paper():
    config = compose("backbone=xception", "discriminator=transfer", "backbone.weights=random").task.discriminator
    discriminator = instantiate(config, _convert_="all")
    counts = [value.numel() for value in discriminator.state_dict().values() if value.dim()]  # without counters
    assert sum(counts) == 20_867_624 == 2048 + 20_865_576
    assert sum(parameter.numel() for group in discriminator.parameter_groups() for parameter in group["params"]) == 2048


def test_calibration_normalizes_real_features():
    discriminator = transfer().eval()
    real = [torch.randn(64, 1, 16, 16) * 2 + 1 for _ in range(4)]
    discriminator.calibrate(real)
    assert discriminator.backbone.calibrated_on == 256
    normalized = discriminator._normalized(discriminator.features(torch.cat(real))[0])
    torch.testing.assert_close(normalized.mean(0), torch.zeros(6), rtol=0, atol=1e-3)
    torch.testing.assert_close(normalized.var(0), torch.ones(6), rtol=1e-2, atol=1e-2)


def test_statistics_follow_both_sides_in_the_discriminator_step_only():
    discriminator = transfer().train()
    real, fake = torch.randn(64, 1, 16, 16), torch.randn(64, 1, 16, 16) * 3 + 2
    discriminator.calibrate([real])
    start = discriminator.norm.running_mean.clone()
    discriminator.logit.requires_grad_(False)  # the generator's turn
    discriminator(fake)
    torch.testing.assert_close(discriminator.norm.running_mean, start)
    discriminator.logit.requires_grad_(True)
    discriminator(fake)
    expected = 0.99 * start + 0.01 * discriminator.features(fake)[0].mean(0)
    torch.testing.assert_close(discriminator.norm.running_mean, expected)
    discriminator.eval()(fake)
    torch.testing.assert_close(discriminator.norm.running_mean, expected)


def test_real_and_fake_end_on_both_sides_of_zero():
    """With statistics of each batch, or of real images alone, the mean logit of the real ones would stay 0."""
    discriminator = transfer().train()
    real, fake = torch.randn(64, 1, 16, 16), torch.randn(64, 1, 16, 16) * 0.2
    discriminator.calibrate([real])
    optimizer = torch.optim.Adam(discriminator.logit.parameters(), lr=0.02)
    for _ in range(100):
        loss = softplus(-discriminator(real)).mean() + softplus(discriminator(fake)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert discriminator(real).mean() > 0.5
    assert discriminator(fake).mean() < -0.5


@pytest.mark.parametrize("unfreeze", ["some", 0, -1, 1.5, True])
def test_transfer_refuses(unfreeze):
    with pytest.raises(InputError, match=r"discriminator\.unfreeze="):
        transfer(unfreeze=unfreeze)
    with pytest.raises(InputError, match=r"discriminator\.backbone_lr_factor=0\.0"):
        transfer(backbone_lr_factor=0.0)


# ---- grid ------------------------------------------------------------------------------------------------------------


def gap_on_features(head, real, fake, *, steps=80):
    """Train the head on these very features; return the distance of the mean logits (of images: tests/probes.py)."""
    optimizer = torch.optim.Adam([weight for weight in head.parameters() if weight.requires_grad], lr=2e-3)
    for _ in range(steps):
        loss = relu(1 - head.head((real,))).mean() + relu(1 + head.head((fake,))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (head.head((real,)).mean() - head.head((fake,)).mean()).item()


@pytest.mark.parametrize(("width", "least", "most"), [(0, -0.1, 0.1), (32, 0.8, 9.0)])
def test_grid_tells_sets_of_equal_means_apart_with_a_hidden_layer_only(width, least, most):
    """Otherwise one image for all noise, with the mean features of the real ones, is the generator's best."""
    torch.manual_seed(0)
    discriminator = grid(levels=1, width=width).train()
    (count,) = discriminator.maps.channels
    real = torch.randn(64, count, 8, 8)
    real = torch.cat([real, -real])
    gap = gap_on_features(discriminator, real, torch.zeros_like(real))
    assert least < gap < most


@pytest.mark.parametrize(("positions", "least", "most"), [(1, -0.1, 0.1), (4, 0.8, 9.0)])
def test_grid_tells_moved_maps_from_those_in_place(positions, least, most):
    """Maps averaged over all positions do not."""
    torch.manual_seed(0)
    discriminator = grid(levels=1, positions=positions).train()
    (count,) = discriminator.maps.channels
    real = torch.zeros(64, count, 8, 8)
    real[:, :, :4, :4] = torch.randn(64, count, 1, 1).abs() * 2
    gap = gap_on_features(discriminator, real, real.flip(2))
    assert least < gap < most


def test_grid_gives_each_level_its_own_logit():
    discriminator = grid().eval()
    features = list(discriminator.features(torch.randn(3, 1, 16, 16)))
    before = discriminator.head(tuple(features))
    features[1] = features[1] + 1
    after = discriminator.head(tuple(features))
    assert torch.equal(before[:, 0], after[:, 0])
    assert (before[:, 1] != after[:, 1]).all()


def test_grid_is_no_larger_than_the_maps():
    linear = grid(width=0, positions=100, spectral=False)  # maps of 16 x 16 and 8 x 8
    counts = [sum(weight.numel() for weight in head.parameters()) for head in linear.heads]
    assert counts == [5 * 16**2 + 1, 6 * 8**2 + 1]


@pytest.mark.parametrize("option", ["levels", "positions", "width"])
def test_grid_refuses(option):
    with pytest.raises(InputError, match=rf"discriminator\.{option}=-1 must be"):
        grid(**{option: -1})


# ---- projected -------------------------------------------------------------------------------------------------------


def test_projection_is_random_convolutions_and_a_sum_from_coarse_to_fine():
    mix = Projection((5, 7), width=4)
    fine, coarse = torch.randn(2, 5, 16, 16), torch.randn(2, 7, 8, 8)
    out = mix((fine, coarse))
    assert [tuple(maps.shape) for maps in out] == [(2, 4, 32, 32), (2, 4, 16, 16)]
    enlarge = nn.Upsample(scale_factor=2, mode="bilinear")

    def mixed(convolution, maps):
        return torch.einsum("oi,nihw->nohw", convolution.weight[..., 0, 0], maps)

    (own, coarser), (result, coarser_result) = mix.across_channels, mix.across_scales
    below = enlarge(mixed(coarser_result, mixed(coarser, coarse)))
    torch.testing.assert_close(out[1], below)
    torch.testing.assert_close(out[0], enlarge(mixed(result, mixed(own, fine) + below)))
    assert not any(parameter.requires_grad for parameter in mix.parameters())


def test_projection_keeps_the_variance_of_a_level():
    mix = Projection((256, 256), width=64)
    flat = torch.randn(64, 256, 1, 1)  # constant over the positions, so that the enlargement changes nothing
    fine, coarse = mix((torch.zeros(64, 256, 2, 2), flat.expand(-1, -1, 1, 1)))
    assert 0.8 < coarse.var() < 1.2
    assert 0.6 < fine.var() < 1.4  # what comes from the coarser level


def test_level_widths_and_sizes_are_the_authors_programs():
    sizes = zip((128, 64, 32, 16), (64, 64, 128, 256), strict=True)  # of images of 256 pixels, before each level
    with torch.device("meta"):
        mix = Projection((24, 40, 112, 320), width=64)
        levels = [LevelDiscriminator(size, inputs, 512, batch=True, num_classes=0) for size, inputs in sizes]
    assert [convolution.out_channels for convolution in mix.across_channels] == [64, 128, 256, 512]
    assert [convolution.out_channels for convolution in mix.across_scales] == [64, 64, 128, 256]
    widths = [[module.out_channels for module in level.modules() if isinstance(module, nn.Conv2d)] for level in levels]
    assert widths == [[64, 128, 256, 512, 1], [128, 256, 512, 1], [256, 512, 1], [512, 1]]
    assert [enlarged_size(size) for size in (64, 32, 16, 8)] == [enlarged_size(size) for size in (56, 28, 14, 7)]


def test_projections_follow_the_seed_and_are_saved():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(projected().state_dict())
    keys = [key for key in states[0] if key.startswith("projections")]
    assert len(keys) == 3 + 3
    assert all(torch.equal(states[0][key], states[1][key]) for key in keys)
    assert not any(torch.equal(states[0][key], states[2][key]) for key in keys)


@pytest.mark.parametrize(
    ("strides", "image_size", "sizes"),
    [
        ((1, 2, 2), 32, (64, 32, 16)),
        ((2, 2, 2), 16, (16, 16, 16)),
        ((1, 1, 1), 16, (32, 32, 32)),
        ((2, 1, 1), 28, (32, 32, 32)),  # a vision transformer's 224 / 16
        ((2, 2, 2), 76, (64, 32, 16)),
        ((2, 2, 2), 8, (16, 16, 16)),
    ],
    ids=["pyramid", "small images", "equal sizes", "equal and odd", "odd", "single position"],
)
def test_every_level_is_enlarged_and_has_as_many_columns(strides, image_size, sizes):
    discriminator = ProjectedDiscriminator(
        backbone=TinyBackbone(strides=strides), image_size=image_size, channels=1, levels=3, width=4
    )
    features = discriminator.features(torch.randn(2, 1, image_size, image_size))
    widths = (4, 4, 8)
    assert [tuple(maps.shape[1:]) for maps in features] == [(w, s, s) for w, s in zip(widths, sizes, strict=True)]
    logits = [level(maps) for level, maps in zip(discriminator.discriminators, features, strict=True)]
    assert [tensor.shape for tensor in logits] == [(2, 25)] * 3
    torch.testing.assert_close(
        discriminator.eval().head(features),
        torch.cat([level(maps) for level, maps in zip(discriminator.discriminators, features, strict=True)], dim=1),
    )


def test_mean_over_columns_is_proportional_to_the_papers_sum_over_levels():
    discriminator = projected().eval()
    images = torch.randn(2, 1, 16, 16)
    levels = zip(discriminator.discriminators, discriminator.features(images), strict=True)
    papers = sum(relu(1 - level(maps)).mean() for level, maps in levels)
    torch.testing.assert_close(3 * relu(1 - discriminator(images)).mean(), papers)


def test_without_batch_normalization_images_do_not_influence_each_other():
    images = torch.randn(4, 1, 16, 16)
    for normalization, influence in (("batch", True), ("none", False)):
        discriminator = projected(normalization=normalization)
        alone, together = (copy.deepcopy(discriminator)(images[:count])[:2] for count in (2, 4))
        assert (not torch.allclose(alone, together, atol=1e-5)) == influence
        assert any("running_mean" in key for key in discriminator.discriminators.state_dict()) == influence


def test_each_of_two_backbones_has_its_own_projection():
    discriminator = projected(second=(2, 1, 1)).eval()
    images = torch.randn(2, 1, 16, 16)
    before = discriminator(images)
    with torch.no_grad():
        discriminator.backbones[1].backbone.layers[0][0].weight.mul_(-1)
    after = discriminator(images)
    torch.testing.assert_close(after[:, :75], before[:, :75])
    assert (after[:, 75:] != before[:, 75:]).any()


def test_calibration_gives_each_level_mean_0_and_deviation_1():
    discriminator = projected()
    real = [torch.randn(size, 1, 16, 16) * 2 + 1 for size in (8, 8, 5)]
    frozen = discriminator.backbones[0]
    with torch.no_grad():
        frozen.backbone.layers[1][0].weight.mul_(100)
    discriminator.calibrate(real)
    assert frozen.backbone.calibrated_on == 21
    for maps in frozen(torch.cat(real)):
        torch.testing.assert_close(maps.mean(dim=(0, 2, 3)), torch.zeros(maps.shape[1]), rtol=0, atol=1e-3)
        torch.testing.assert_close(maps.square().mean(), torch.tensor(1.0), rtol=1e-3, atol=0)


def test_backbone_stays_in_evaluation_mode():
    for discriminator in (transfer(), grid(), projected(), vision_aided()):
        discriminator.train()
        backbones = [module for module in discriminator.modules() if isinstance(module, Backbone)]
        assert len(backbones) == 1
        assert not any(module.training for module in backbones[0].modules())


def test_projected_refuses():
    for options in ({"levels": 0}, {"levels": 4}):
        with pytest.raises(InputError, match=r"discriminator\.levels="):
            projected(**options)
    with pytest.raises(InputError, match=r"discriminator\.normalization=group"):
        projected(normalization="group")
    with pytest.raises(InputError, match=r"discriminator\.width=0"):
        ProjectedDiscriminator(backbone=TinyBackbone(), image_size=16, channels=1, levels=2, width=0)


# ---- vision-aided ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spectral", [True, False])
def test_no_layer_of_a_spectral_head_stretches_its_input(spectral):
    discriminator = vision_aided(spectral=spectral)
    for module in discriminator.heads.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.normal_(module.weight if not spectral else module.parametrizations.weight.original, std=3)
    images = torch.randn(2, 1, 16, 16)
    for _ in range(30):  # the power iteration needs some steps
        discriminator(images)
    layers = [m for m in discriminator.heads.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    norms = torch.stack([torch.linalg.matrix_norm(layer.weight.flatten(1), 2) for layer in layers])
    assert len(norms) == 6
    if spectral:
        torch.testing.assert_close(norms, torch.ones(6), rtol=0.1, atol=0)
    else:
        assert norms.min() > 3


def test_backbone_is_not_run_during_the_warm_up():
    discriminator = vision_aided(warmup_images=100).eval()
    assert isinstance(discriminator, Scheduled)
    assert not discriminator.has_frozen_features
    runs = []
    discriminator.levels.backbone.layers[0].register_forward_hook(lambda *_: runs.append(1))
    images = torch.randn(2, 1, 16, 16)
    for seen in (0, 99):
        discriminator.advance(seen)
        torch.testing.assert_close(discriminator(images), discriminator.trained(images))
        (features,) = discriminator.features(images)
        assert features is images
    assert not runs
    discriminator.advance(100)
    assert discriminator(images).shape == (2, 4)
    assert [tuple(maps.shape[1:]) for maps in discriminator.features(images)] == [(1, 16, 16), (5, 16, 16), (6, 8, 8)]
    assert runs


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("patches", [False, True])
def test_trained_discriminator_and_heads_have_equal_weight(patches, levels):
    trained = PatchDiscriminator(image_size=16, channels=1, layers=1, width=4) if patches else dcgan()
    discriminator = vision_aided(trained=trained, levels=levels).eval()
    images = torch.randn(2, 1, 16, 16)
    assert discriminator.trained(images).shape == (2, 36 if patches else 1)
    own, *maps = discriminator.features(images)
    sides = trained.head((own,)), torch.cat([head(m) for head, m in zip(discriminator.heads, maps, strict=True)], dim=1)
    papers = sum(relu(1 - side).mean() for side in sides)
    torch.testing.assert_close(2 * relu(1 - discriminator(images)).mean(), papers)


def test_penalties_gradient_halves_on_the_images_and_reaches_the_maps():
    discriminator = vision_aided(warmup_images=1).eval()
    images = torch.randn(2, 1, 16, 16, requires_grad=True)
    (alone,) = torch.autograd.grad(discriminator.head((images,)).mean(dim=1).sum(), images)
    discriminator.advance(1)
    features = tuple(maps.detach().requires_grad_() for maps in discriminator.features(images))
    gradients = torch.autograd.grad(discriminator.head(features).mean(dim=1).sum(), features, create_graph=True)
    torch.testing.assert_close(gradients[0], alone / 2)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    sum(gradient.square().sum() for gradient in gradients).backward()  # a second derivative is there
    weights = [head.layers[0].parametrizations.weight.original for head in discriminator.heads]
    assert all(weight.grad.abs().sum() > 0 for weight in weights)


def test_vision_aided_advances_the_trained_discriminator():
    trained = vision_aided(warmup_images=5)
    discriminator = vision_aided(trained=trained, warmup_images=10)
    discriminator.advance(7)
    assert (trained.warm, discriminator.warm) == (True, False)
    discriminator.calibrate([torch.randn(4, 1, 16, 16)])
    assert trained.levels.backbone.calibrated_on == discriminator.levels.backbone.calibrated_on == 4
    discriminator.advance(10)
    assert discriminator(torch.randn(2, 1, 16, 16)).shape == (2, 8)


@pytest.mark.parametrize("option", ["levels", "width", "warmup_images"])
def test_vision_aided_refuses(option):
    options = {"backbone": TinyBackbone(), "image_size": 16, "channels": 1, option: -1}
    with pytest.raises(InputError, match=rf"discriminator\.{option}=-1"):
        VisionAidedDiscriminator(trained=dcgan(), **options)


# ---- DCGAN's ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", ["batch", "spectral", "none"])
def test_dcgan_normalizations(normalization):
    discriminator = DCGANDiscriminator(image_size=32, channels=3, width=8, normalization=normalization)
    kinds = [type(module).__name__ for module in discriminator.modules()]
    assert ("BatchNorm2d" in kinds) == (normalization == "batch")
    assert ("_SpectralNorm" in kinds) == (normalization == "spectral")
    assert discriminator(torch.randn(2, 3, 32, 32)).shape == (2, 1)


def test_dcgan_refuses():
    with pytest.raises(InputError, match=r"discriminator\.normalization=layer"):
        DCGANDiscriminator(image_size=32, channels=1, normalization="layer")
    with pytest.raises(InputError, match="image_size=48"):
        DCGANDiscriminator(image_size=48, channels=1)


# ---- configuration ---------------------------------------------------------------------------------------------------


def test_projected_chooses_the_papers_augmentation_unless_the_user_chooses():
    config = compose("discriminator=projected")
    assert list(config.task.augmentations) == ["diffaugment"]
    assert not config.task.penalties
    assert config.task.discriminator.second_backbone is None
    config = compose("discriminator=projected", "augment=none", "penalty=r1")
    assert not config.task.augmentations
    assert list(config.task.penalties) == ["r1"]


def test_projected_takes_a_second_backbone():
    config = compose("discriminator=projected", "backbone=resnet50", "backbone@second_backbone=mini")
    backbones = config.task.discriminator.backbone, config.task.discriminator.second_backbone
    assert [backbone.model_name for backbone in backbones] == ["resnet50", "medsynth_mini"]


def test_vision_aided_uses_any_trained_discriminator():
    assert compose("discriminator=vision_aided").task.discriminator.trained._target_.endswith(".DCGANDiscriminator")
    chosen = (
        "discriminator=vision_aided",
        "discriminator@discriminator.trained=sngan",
        "discriminator.trained.width=8",
    )
    discriminator = compose(*chosen).task.discriminator
    assert discriminator.trained._target_.endswith(".SNGANDiscriminator")
    assert discriminator.trained.width == 8
    assert discriminator.backbone.model_name == "medsynth_mini"


@pytest.mark.parametrize(
    "overrides",
    [
        ["discriminator=transfer", "discriminator.unfreeze=none"],
        ["discriminator=transfer", "discriminator.unfreeze=1"],
        ["discriminator=transfer", "discriminator.unfreeze=all"],
        ["discriminator=grid", "discriminator.levels=4"],
        ["discriminator=projected", "discriminator.width=4"],
        ["discriminator=vision_aided", "discriminator.warmup_images=0"],
    ],
    ids=lambda overrides: overrides[-1],
)
def test_configured_discriminators_on_the_embedded_network(overrides):
    config = compose("data.image_size=32", *overrides).task.discriminator
    discriminator = instantiate(config, _convert_="all")
    images = torch.randn(4, 1, 32, 32).clamp(-1, 1).requires_grad_()
    discriminator.calibrate([images.detach()])
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images)
    assert gradient.abs().sum() > 0
