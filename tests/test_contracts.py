"""The classes that conf/ names, in lists by contract: pyright checks that each of them fulfills its contract."""

from __future__ import annotations

import re

import pytest

from medsynth.augment.ada import AdaptiveAugmentation
from medsynth.augment.diffaugment import DiffAugment
from medsynth.augment.instance_noise import InstanceNoise
from medsynth.backbone.network import TimmBackbone
from medsynth.configuration.compose import conf_folder
from medsynth.contracts import (
    Adaptive,
    AdaptiveGeneratorPenalty,
    Augmentation,
    Backbone,
    Discriminator,
    Generator,
    GeneratorPenalty,
    HasActivations,
    HasEncoding,
    ImagePenalty,
    LogitPenalty,
    Loss,
    MinibatchLayer,
    Penalty,
    PerturbedPenalty,
    ReconstructionTerm,
    Translator,
)
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.grid import GridDiscriminator
from medsynth.discriminator.mlp import MLPDiscriminator
from medsynth.discriminator.patch import PatchDiscriminator
from medsynth.discriminator.projected import ProjectedDiscriminator
from medsynth.discriminator.r3gan import R3GANDiscriminator
from medsynth.discriminator.sngan import SNGANDiscriminator
from medsynth.discriminator.style import StyleDiscriminator
from medsynth.discriminator.transfer import TransferDiscriminator
from medsynth.discriminator.vision_aided import VisionAidedDiscriminator
from medsynth.generator.dcgan import DCGANGenerator
from medsynth.generator.fastgan import FastGANGenerator
from medsynth.generator.mlp import MLPGenerator
from medsynth.generator.resnet import ResNetGenerator
from medsynth.generator.resnet_translator import ResNetTranslator
from medsynth.generator.style import StyleGenerator
from medsynth.generator.tomsk import TomskGenerator
from medsynth.generator.unet import UNetTranslator
from medsynth.generator_penalty.feature_matching import FeatureMatching
from medsynth.generator_penalty.mode_seeking import ModeSeeking
from medsynth.generator_penalty.path_length import PathLength
from medsynth.loss.dual_contrastive import DualContrastive
from medsynth.loss.hinge import Hinge
from medsynth.loss.least_squares import LeastSquares
from medsynth.loss.minimax import Minimax
from medsynth.loss.non_saturating import NonSaturating
from medsynth.loss.relativistic_average import RelativisticAverage
from medsynth.loss.relativistic_pairing import RelativisticPairing
from medsynth.loss.wasserstein import Wasserstein
from medsynth.minibatch.discrimination import MinibatchDiscrimination
from medsynth.minibatch.std import MinibatchStd
from medsynth.penalty.consistency import Consistency
from medsynth.penalty.dragan import DRAGAN
from medsynth.penalty.drift import Drift
from medsynth.penalty.lecam import LeCam
from medsynth.penalty.r1 import R1
from medsynth.penalty.r2 import R2
from medsynth.penalty.wasserstein_gp import WassersteinGradientPenalty
from medsynth.reconstruction.l1 import L1
from medsynth.reconstruction.l2 import L2
from medsynth.reconstruction.perceptual import Perceptual
from medsynth.reconstruction.ssim import SSIM

LOSSES: list[type[Loss]] = [
    DualContrastive,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    RelativisticPairing,
    Wasserstein,
]
PENALTIES: list[type[Penalty] | type[LogitPenalty] | type[ImagePenalty]] = [
    Consistency,
    DRAGAN,
    Drift,
    LeCam,
    R1,
    R2,
    WassersteinGradientPenalty,
]
GENERATOR_PENALTIES: list[type[GeneratorPenalty]] = [FeatureMatching, ModeSeeking, PathLength]
ADAPTIVE_GENERATOR_PENALTIES: list[type[AdaptiveGeneratorPenalty]] = [PathLength]
PERTURBED: list[type[PerturbedPenalty]] = [DRAGAN]
MINIBATCH: list[type[MinibatchLayer]] = [MinibatchDiscrimination, MinibatchStd]
ADAPTIVE: list[type[Adaptive]] = [LeCam, AdaptiveAugmentation]
AUGMENTATIONS: list[type[Augmentation]] = [AdaptiveAugmentation, DiffAugment, InstanceNoise]
BACKBONES: list[type[Backbone]] = [TimmBackbone]
TRANSLATORS: list[type[Translator]] = [ResNetTranslator, UNetTranslator]
ENCODINGS: list[type[HasEncoding]] = [ResNetTranslator, UNetTranslator]
RECONSTRUCTIONS: list[type[ReconstructionTerm]] = [L1, L2, SSIM, Perceptual]
GENERATORS: list[type[Generator]] = [
    DCGANGenerator,
    FastGANGenerator,
    MLPGenerator,
    ResNetGenerator,
    StyleGenerator,
    TomskGenerator,
]
DISCRIMINATORS: list[type[Discriminator]] = [
    DCGANDiscriminator,
    GridDiscriminator,
    MLPDiscriminator,
    PatchDiscriminator,
    ProjectedDiscriminator,
    R3GANDiscriminator,
    SNGANDiscriminator,
    StyleDiscriminator,
    TransferDiscriminator,
    VisionAidedDiscriminator,
]
ACTIVATIONS: list[type[HasActivations]] = [
    DCGANDiscriminator,
    MLPDiscriminator,
    PatchDiscriminator,
    R3GANDiscriminator,
    SNGANDiscriminator,
    StyleDiscriminator,
    TransferDiscriminator,
    VisionAidedDiscriminator,
]
GROUPS = [
    "loss",
    "minibatch",
    "penalty",
    "generator_penalty",
    "reconstruction",
    "augment",
    "backbone",
    "generator",
    "discriminator",
]


@pytest.mark.parametrize("group", GROUPS)
def test_every_class_of_conf_is_in_the_lists(group: str) -> None:
    files = (path.read_text() for path in conf_folder().glob(f"{group}/**/*.yaml"))
    named = {target for text in files for target in re.findall(r"_target_: (\S+)", text)}
    lists = {
        "loss": LOSSES,
        "minibatch": MINIBATCH,
        "penalty": PENALTIES,
        "generator_penalty": GENERATOR_PENALTIES,
        "augment": AUGMENTATIONS,
        "backbone": BACKBONES,
        "generator": [*GENERATORS, *TRANSLATORS],
        "reconstruction": [*RECONSTRUCTIONS, *BACKBONES],
        "discriminator": DISCRIMINATORS,
    }
    assert named == {f"{listed.__module__}.{listed.__qualname__}" for listed in lists[group]}
