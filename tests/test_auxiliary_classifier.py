"""discriminator.classifier (AC-GAN): the second output, both networks' steps by hand, options, and balanced classes."""

import copy

import pytest
import torch
from torch.distributions import Categorical
from torch.nn.functional import softplus
from torch.nn.utils.parametrize import is_parametrized

from medsynth.configuration.combinations import check_combinations
from medsynth.contracts import AuxiliaryClassifier, InputError, check_contract, counter_seed
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.mlp import MLPDiscriminator
from medsynth.discriminator.r3gan import R3GANDiscriminator
from medsynth.discriminator.sngan import SNGANDiscriminator
from medsynth.gan import GAN
from medsynth.penalty.r1 import R1
from tests.command import TINY, run
from tests.files import write_images
from tests.test_conf import compose
from tests.test_gan import Images, descend, fit, gan, weights

SMALL = {
    "dcgan": lambda **k: DCGANDiscriminator(width=4, normalization="none", **k),
    "sngan": lambda **k: SNGANDiscriminator(width=4, **k),
    "mlp": lambda **k: MLPDiscriminator(widths=(16, 8), **k),
    "r3gan": lambda **k: R3GANDiscriminator(width=8, max_width=16, blocks=1, group_width=4, **k),
}


def classifying(name="dcgan", num_classes=2):
    torch.manual_seed(3)
    return SMALL[name](image_size=16, channels=1, num_classes=num_classes, classifier=True)


@pytest.mark.parametrize("name", SMALL)
def test_the_classes_are_a_second_output_beside_a_logit_that_ignores_labels(name):
    discriminator = classifying(name, num_classes=3).eval()
    check_contract(discriminator, AuxiliaryClassifier, "discriminator")
    assert discriminator.classifies
    images = torch.randn(5, 1, 16, 16)
    features = discriminator.features(images)
    logits, classes = discriminator.head_with_classes(features)
    assert classes.shape == (5, 3)
    torch.testing.assert_close(logits, discriminator.head(features, None))
    torch.testing.assert_close(logits, discriminator.head(features, torch.arange(5) % 3))
    assert is_parametrized(discriminator.logit.classes) == (name == "sngan")
    assert not SMALL[name](image_size=16, channels=1, num_classes=3).classifies


def test_two_steps_are_those_of_the_paper():
    """Odena et al. 2017: the discriminator maximizes L_S + L_C, the generator L_C - L_S, here with the usual -log D."""
    model = gan(discriminator=classifying(), num_classes=2, max_images=16, class_weight=0.7)
    generator, discriminator = copy.deepcopy(model.generator), copy.deepcopy(model.discriminator)
    data, labels = Images(), torch.arange(8) % 2
    fit(model, data)
    for step in range(2):
        real = data.images[8 * step : 8 * step + 8]
        torch.manual_seed(counter_seed("step", 0, 8 * step, 0))
        z = torch.randn(8, 4)

        def likelihood(images):
            return Categorical(logits=discriminator.logit.classes(discriminator.layers(images))).log_prob(labels).mean()

        fake = generator(z, labels).detach()
        source = softplus(-discriminator(real)).mean() + softplus(discriminator(fake)).mean()
        descend(source - 0.7 * (likelihood(real) + likelihood(fake)), list(discriminator.parameters()))
        fake = generator(z, labels)
        loss = softplus(-discriminator(fake)).mean() - 0.7 * likelihood(fake)
        descend(loss, [generator.embedding.weight, *generator.linear.parameters()])
    torch.testing.assert_close(weights(model.discriminator), weights(discriminator), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights(model.generator), weights(generator), rtol=1e-4, atol=1e-6)


def test_microbatches_and_penalties_go_with_a_classifier():
    models = [
        gan(discriminator=classifying(), num_classes=2, penalties={"r1": R1()}, accumulate=count) for count in (1, 2)
    ]
    for model in models:
        fit(model, limit_val_batches=0)
    torch.testing.assert_close(*(weights(model.discriminator) for model in models), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(*(weights(model.generator) for model in models), rtol=1e-3, atol=1e-5)


def test_a_classifier_without_labels_is_refused():
    with pytest.raises(InputError, match=r"discriminator\.classifier=true needs labels .* type conditional=true"):
        classifying(num_classes=0)
    with pytest.raises(InputError, match=r"discriminator\.classifier=true needs labels .* type conditional=true"):
        check_combinations(compose("discriminator.classifier=true"))
    check_combinations(compose("discriminator.classifier=true", "conditional=true"))


def test_a_training_with_a_classifier_and_balanced_classes(monkeypatch, capsys, tmp_path):
    """Of 40 and 8 images of two classes the networks see as many of each."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images" / "many", 40, size=(16, 16))
    write_images(tmp_path / "images" / "rare", 8, size=(16, 16))
    seen = []
    draw = GAN.draw
    monkeypatch.setattr(GAN, "draw", lambda self, batch: seen.append(batch["label"]) or draw(self, batch))
    options = [option for option in TINY if not option.startswith("data.source")]
    data = ["data=image_folder", "data.root=images", "data.balance_classes=true", "conditional=true"]
    code, _, err = run(monkeypatch, capsys, *options, *data, "discriminator.classifier=true", "hydra.run.dir=run")
    assert code == 0, err
    labels = torch.cat(seen)
    assert len(labels) == 64
    assert abs(int(labels.sum()) - 32) <= 8  # one and a half epochs; unbalanced it is 11
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert {"train/classes_real", "train/classes_fake"} <= set(header.split(","))
