"""The command ``medsynth pretrain``: training, use of the weights by other parts, and refused options."""

from __future__ import annotations

import json
import re

import hydra
import pytest
import safetensors
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from medsynth.backbone.classifier import Score, Training, evaluate, make_classifier, save_weights, train_classifier
from medsynth.backbone.extractor import TimmExtractor
from medsynth.backbone.network import TimmBackbone
from medsynth.configuration.compose import conf_folder
from medsynth.contracts import InputError
from medsynth.data.module import ImageDataModule
from medsynth.data.phantom import Phantoms
from medsynth.discriminator.transfer import TransferDiscriminator
from tests.command import run

TINY = (
    "backbone=timm",
    "backbone.model_name=test_resnet",
    "data.image_size=16",
    "data.source.anatomies=[head,chest]",
    "data.source.classes=[healthy]",
    "data.source.num_images=96",
    "data.source.num_val=32",
    "data.batch_size=16",
    "epochs=2",
    "device=cpu",
)
SHORT = Training(epochs=2, learning_rate=2e-3, weight_decay=0.05, seed=0)


def backbone(weights="random", **options):
    return TimmBackbone(model_name="test_resnet", channels=1, image_size=16, weights=str(weights), **options)


def phantoms():
    source = Phantoms(
        image_size=16, anatomies=("head", "chest"), classes=("healthy",), num_images=96, num_val=32, seed=0
    )
    return ImageDataModule(source=source, channels=1, image_size=16, batch_size=16, seed=0)


def stripes(count, *, flipped, seed):
    """Batches of 16 noisy images, with an edge on the left (class 0) or the right; ``flipped``: labels are wrong."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(count):
        images = torch.randn(16, 1, 16, 16, generator=generator) * 0.1
        label = torch.randint(2, (16,), generator=generator)
        images[label == 0, :, :, :8] += 0.5
        images[label == 1, :, :, 8:] += 0.5
        batches.append({"image": images, "label": 1 - label if flipped else label})
    return batches


@pytest.fixture
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_elsewhere")
def test_the_command_writes_weights_and_prints_accuracies(monkeypatch, capsys, tmp_path):
    code, out, err = run(monkeypatch, capsys, *TINY, "out=sub/weights.safetensors", command="pretrain")
    assert code == 0, err
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["weights.safetensors"]
    table = re.findall(r"^(head|chest|all classes)[a-z_ ]*? +(\d+) +([\d.]+)$", out, re.MULTILINE)
    assert [(name, int(images)) for name, images, _ in table] == [("head", 16), ("chest", 16), ("all classes", 32)]
    accuracy = float(table[-1][2])
    assert accuracy > 0.9
    assert "backbone=timm backbone.model_name=test_resnet backbone.weights=sub/weights.safetensors" in out

    with safetensors.safe_open("sub/weights.safetensors", "pt") as file:
        record = json.loads(file.metadata()["medsynth"])
    assert record["model"] == "test_resnet"
    assert record["val_accuracy"] == pytest.approx(accuracy, abs=1e-3)
    assert len(record["classes"]) == 2
    code, _, err = run(monkeypatch, capsys, *TINY, "out=sub/weights.safetensors", command="pretrain")
    assert (code, "exists already" in err) == (1, True)


@pytest.mark.usefixtures("_elsewhere")
def test_a_discriminator_can_use_the_weights(monkeypatch, capsys, tmp_path):
    """The command that pretrain prints starts a training."""
    _, out, _ = run(monkeypatch, capsys, *TINY, "out=weights.safetensors", command="pretrain")
    printed = re.search(r"python train\.py (.*)", out)[1].split()
    options = ["data.image_size=16", "data.source.num_images=32", "data.source.num_val=16", "data.batch_size=8"]
    options += ["generator.width=8", "max_images=16", "val_every_images=16", "metrics.parts.mini.inception_score=false"]
    options += ["trainer.accelerator=cpu", "trainer.precision=32-true", "hydra.run.dir=run"]
    code, _, err = run(monkeypatch, capsys, *printed, *options)
    assert code == 0, err
    provenance = "".join(path.read_text() for path in (tmp_path / "run").glob("*.json"))
    assert "file weights.safetensors sha256" in provenance


@pytest.mark.usefixtures("_elsewhere")
def test_an_extractor_of_evaluate_reads_the_file(monkeypatch, capsys):
    """The options that pretrain prints name an extractor that works."""
    _, out, _ = run(monkeypatch, capsys, *TINY, "out=weights.safetensors", command="pretrain")
    printed = re.search(r"medsynth evaluate run=FOLDER (.*)", out)[1].split()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = hydra.compose("evaluate", overrides=[*printed, "data.channels=1", "data.image_size=16"])
    (extractor,) = hydra.utils.instantiate(config.extractor).values()
    assert extractor.backbone.weights_description.startswith("file weights.safetensors sha256")
    assert extractor(torch.zeros(2, 1, 16, 16)).shape == (2, extractor.num_features)


def test_loaded_weights_give_the_trained_features(tmp_path):
    """The features separate the classes, and the trained layer classifies them."""
    data, trained, path = phantoms(), backbone(), tmp_path / "weights.safetensors"
    make_classifier(trained, 2)
    score = train_classifier(trained, data.train_dataloader(), data.val_dataloader(), training=SHORT)
    assert score.accuracy > 0.9
    save_weights(trained, path, {})
    images, labels = (torch.cat([batch[key] for batch in data.val_dataloader()]) for key in ("image", "label"))
    extractor = TimmExtractor(name="own", backbone=backbone(path))
    features = extractor(images)
    with torch.no_grad():
        torch.testing.assert_close(features, trained(images))
        assert (trained.logits(features).argmax(dim=1) == labels).float().mean() == pytest.approx(score.accuracy)
    discriminator = TransferDiscriminator(backbone=backbone(path), unfreeze="none", momentum=0.1, num_classes=0)
    assert discriminator(images).shape == (32, 1)


def test_same_seed_same_weights():
    def weights(seed):
        torch.manual_seed(seed)
        network = backbone()
        make_classifier(network, 2)
        training = Training(epochs=1, learning_rate=2e-3, weight_decay=0.05, seed=seed)
        train_classifier(
            network, stripes(4, flipped=False, seed=0), stripes(1, flipped=False, seed=1), training=training
        )
        return network.state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


def test_the_best_epoch_is_kept():
    """With wrong labels after the first epoch, the weights of the first one are kept."""

    class Spoiled:
        epoch = 0

        def __len__(self):
            return 12

        def __iter__(self):
            self.epoch += 1
            return iter(stripes(12, flipped=self.epoch > 1, seed=self.epoch))

    network, val, seen = backbone(), stripes(4, flipped=False, seed=9), []
    make_classifier(network, 2)
    training = Training(epochs=3, learning_rate=3e-3, weight_decay=0.0, seed=0)
    best = train_classifier(network, Spoiled(), val, training=training, report=lambda *values: seen.append(values))
    assert [epoch for epoch, _, _ in seen] == [1, 2, 3]
    assert seen[0][2].accuracy > 0.9
    assert seen[-1][2].accuracy < 0.5
    assert best == seen[0][2] == evaluate(network, val)


def test_score_counts_by_class():
    class Told(torch.nn.Module):
        scale = torch.zeros(1)

        def forward(self, images):
            return images.flatten(1)

        def logits(self, features):
            return features

    logits = torch.tensor([[9.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]).view(4, 3, 1, 1)
    batches = [
        {"image": logits[:3], "label": torch.tensor([0, 1, 1])},
        {"image": logits[3:], "label": torch.tensor([1])},
    ]
    score = evaluate(Told(), batches)
    assert (score.correct, score.total, score.accuracy) == ((1, 1, 0), (1, 3, 0), 0.5)
    assert score.loss == pytest.approx(4.5, abs=1e-3)  # two of four are wrong by 9 nats
    assert isinstance(score, Score)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "out= is required"),
        (("out=weights.pth",), "out=weights.safetensors"),
        (("out=/dev/null/w.safetensors",), "out=/dev/null/w.safetensors cannot be written"),
        (("out=w.safetensors", "data.source.anatomies=[head]"), "two classes or more"),
        (("out=w.safetensors", "epochs=0"), "epochs=0"),
        (("out=w.safetensors", "learning_rate=0"), "learning_rate=0"),
        (("out=w.safetensors", "device=tpu"), "auto, cpu, cuda"),
        (("out=w.safetensors", "epoch=3"), "did you mean epochs"),
        (("out=w.safetensors", "backbone.weights=nowhere.pth"), "backbone.weights=nowhere.pth is not a file"),
    ],
    ids=lambda value: str(value)[:60],
)
@pytest.mark.usefixtures("_elsewhere")
def test_impossible_options_are_refused(monkeypatch, capsys, tmp_path, arguments, words):
    code, _, err = run(monkeypatch, capsys, *TINY, *arguments, command="pretrain")
    assert code == 1
    assert err.startswith("medsynth pretrain: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not list(tmp_path.glob("*.safetensors*"))


@pytest.mark.usefixtures("_elsewhere")
def test_images_without_labels_are_refused(monkeypatch, capsys, tmp_path):
    for number in range(8):
        image = Image.effect_noise((16, 16), 20 + number)
        (tmp_path / "images").mkdir(exist_ok=True)
        image.save(tmp_path / "images" / f"{number}.png")
    options = ("data=image_folder", "data.root=images", "data.image_size=16", "data.batch_size=2", "out=w.safetensors")
    code, _, err = run(monkeypatch, capsys, *options, command="pretrain")
    assert (code, "two classes or more" in err) == (1, True), err


def test_divergence_raises():
    network = backbone()
    make_classifier(network, 2)
    broken = stripes(1, flipped=False, seed=0)
    broken[0]["image"][0] = torch.inf
    with pytest.raises(InputError, match="learning_rate"):
        train_classifier(network, broken, broken, training=SHORT)
