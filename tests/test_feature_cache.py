"""The feature cache: the same training with fewer passes, only where that is right, and complete or absent."""

import pickle

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from medsynth.checksums import Damaged, write_checksums
from medsynth.contracts import InputError
from medsynth.discriminator.feature_cache import CachedFeatures, FeatureCache
from medsynth.penalty.r1 import R1
from tests.files import assert_private
from tests.test_gan import Counting, Images, fit, gan, transfer, weights

CALIBRATION = 64
PROBE = 16


class Losses(pl.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        self.values.append(outputs["discriminator_loss"])


def train(cache, *, max_images=192, data=None, **options):
    """Three epochs of 64 images; returns the model, its losses, and how many images its frozen part has seen."""
    torch.manual_seed(3)
    discriminator = transfer()
    discriminator.backbone.layers = counting = Counting(discriminator.backbone.layers)
    model = gan(discriminator=discriminator, max_images=max_images, feature_cache=cache, **options)
    losses = Losses()
    fit(model, data or Images(), callbacks=[losses], val_check_interval=1000, limit_val_batches=0)
    return model, torch.stack(losses.values), counting.images


def cache(tmp_path, **options):
    return FeatureCache(folder=str(tmp_path / "cache"), **options)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_same_training_with_each_real_image_seen_once(tmp_path, dtype):
    plain, expected, passes = train(None, penalties={"r1": R1(gamma=0.1)})
    assert passes == CALIBRATION + 2 + 2 * 192  # two for the trial of the penalty
    cached, losses, passes = train(cache(tmp_path, dtype=dtype), penalties={"r1": R1(gamma=0.1)})
    assert passes == CALIBRATION + 2 + PROBE + 64 + 192
    tolerance = {"float32": 1e-6, "float16": 1e-3}[dtype]
    torch.testing.assert_close(losses, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(weights(cached.generator), weights(plain.generator), rtol=tolerance, atol=tolerance)


def test_the_log_names_the_cache_once(tmp_path, caplog):
    caplog.set_level("INFO")
    train(cache(tmp_path))
    (message,) = [record.message for record in caplog.records if "cache" in record.message]
    assert "each of the 64 real images once" in message


def test_a_cache_is_reused_for_the_same_weights_and_images_alone(tmp_path):
    train(cache(tmp_path))
    _, _, passes = train(cache(tmp_path))
    assert passes == CALIBRATION + PROBE + 192
    other = transfer()
    torch.nn.init.normal_(next(other.backbone.parameters()))
    fit(gan(discriminator=other, max_images=192, feature_cache=cache(tmp_path)), limit_val_batches=0)
    different = Images()
    different.images[40] *= -1
    train(cache(tmp_path), data=different)
    assert len(list((tmp_path / "cache").iterdir())) == 3


class Fresh(Images):
    images_are_fixed = False


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"augmentations": {"noise": lambda images: images + 0.1 * torch.randn_like(images)}}, "augment=noise"),
        ({"data": Fresh()}, "never the same"),
        ({"max_images": 64}, "no real image twice"),
        ({"max_gib": 1e-9}, "task.feature_cache.max_gib=1e-09"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_there_is_no_cache_where_it_would_be_wrong_or_save_nothing(tmp_path, caplog, options, reason):
    caplog.set_level("INFO")
    options = dict(options)
    limit = {"max_gib": options.pop("max_gib")} if "max_gib" in options else {}
    model, _, _ = train(cache(tmp_path, **limit), **options)
    assert model.images_seen == options.get("max_images", 192)
    assert [
        record.message for record in caplog.records if "No feature cache" in record.message and reason in record.message
    ]
    assert not list(tmp_path.rglob("*.npy"))


def test_a_discriminator_without_frozen_features_has_no_cache_and_logs_nothing(tmp_path, caplog):
    caplog.set_level("INFO")
    fit(gan(max_images=192, feature_cache=cache(tmp_path)), limit_val_batches=0)
    assert not [record for record in caplog.records if "cache" in record.message]


def test_a_cache_that_is_asked_for_and_not_possible_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"task\.feature_cache\.enabled=true is not possible: .*no frozen features"):
        fit(gan(feature_cache=cache(tmp_path, enabled=True)))
    with pytest.raises(InputError, match=r"enabled=maybe"):
        cache(tmp_path, enabled="maybe")
    with pytest.raises(InputError, match=r"dtype=int8"):
        cache(tmp_path, dtype="int8")


def test_a_cache_is_complete_or_absent(tmp_path):
    passes = []

    class BreakingLoader:
        def __init__(self, loader):
            self.loader = loader

        def __iter__(self):
            passes.append(1)
            for number, batch in enumerate(self.loader):
                if len(passes) == 3 and number == 2:  # after the probe and the key
                    raise ZeroDivisionError
                yield batch

    class Breaking(Images):
        def ordered_batches(self):
            return BreakingLoader(super().ordered_batches())

    with pytest.raises(ZeroDivisionError):
        train(cache(tmp_path), data=Breaking())
    assert len(passes) == 3
    assert not list((tmp_path / "cache").iterdir())


def test_float16_refuses_what_it_cannot_hold(tmp_path):
    discriminator = transfer()
    discriminator.backbone.layers.append(torch.nn.Linear(6, 6))
    torch.nn.init.constant_(discriminator.backbone.layers[-1].bias, 1e6)
    model = gan(discriminator=discriminator, max_images=192, feature_cache=cache(tmp_path, dtype="float16"))
    with pytest.raises(InputError, match="choose float32"):
        fit(model, limit_val_batches=0)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x93NUMPY\x01\x00", pickle.dumps([1])], ids=["empty", "text", "cut", "pickle"]
)
def test_a_damaged_cache_is_refused_also_where_its_checksums_fit(tmp_path, content):
    np.save(tmp_path / "0.npy", np.zeros((4, 2), np.float32))
    write_checksums(tmp_path)
    assert len(CachedFeatures(tmp_path).arrays) == 1
    (tmp_path / "1.npy").write_bytes(content)
    write_checksums(tmp_path)
    with pytest.raises(Damaged):
        CachedFeatures(tmp_path)


def test_a_cache_that_claims_more_than_it_holds_is_refused(tmp_path):
    np.save(tmp_path / "0.npy", np.zeros((4, 2), np.float32))
    content = (tmp_path / "0.npy").read_bytes()
    (tmp_path / "0.npy").write_bytes(content.replace(b"(4, 2)", b"(9, 9)"))
    write_checksums(tmp_path)
    with pytest.raises(Damaged):
        CachedFeatures(tmp_path)


@pytest.mark.parametrize("at_once", [2**30, 0], ids=["small", "large"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_cache_is_filled_again(tmp_path, caplog, monkeypatch, damage, at_once):
    """A larger one is verified while it is read: damage then ends the run, and the next one fills it again."""
    monkeypatch.setattr("medsynth.checksums.BLOCK", 256)
    _, expected, _ = train(cache(tmp_path))
    (file,) = (tmp_path / "cache").rglob("0.npy")
    content = file.read_bytes()
    changed = {"cut": content[:-10], "changed": content[:-9] + b"\x99" * 9, "gone": None}[damage]
    file.unlink() if changed is None else file.write_bytes(changed)
    monkeypatch.setattr("medsynth.checksums.AT_ONCE", at_once)
    if damage == "changed" and not at_once:
        with pytest.raises(InputError, match=r"The feature cache .* is damaged \(0\.npy has changed\): resume the run"):
            train(cache(tmp_path))
    _, losses, passes = train(cache(tmp_path))
    assert passes == CALIBRATION + PROBE + 64 + 192
    torch.testing.assert_close(losses, expected)
    assert [record for record in caplog.records if "is damaged" in record.message and "filled again" in record.message]
    assert file.read_bytes() == content
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_is_for_its_owner_alone(tmp_path):
    train(cache(tmp_path))
    assert_private(tmp_path / "cache")
