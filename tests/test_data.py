"""The data room: the order of training images and its exact resume, the data module, and images from a folder."""

from __future__ import annotations

import itertools
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from medsynth.contracts import InputError, Intensity, counter_seed
from medsynth.data.image_file import reader
from medsynth.data.image_folder import ImageFolder, image_folder
from medsynth.data.module import ImageDataModule
from medsynth.data.sampler import ResumableBatchSampler

CONF = Path(__file__).parents[1] / "conf" / "data"


class Numbers(torch.utils.data.Dataset):
    """Image i is constant with the value i / 1000."""

    def __init__(self, length, *, endless=False):
        self.length = length
        self.endless = endless

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {"image": torch.full((1, 4, 4), index / 1000), "label": index % 2, "index": index}


class NumberSource:
    class_names = ("even", "odd")
    intensity = Intensity(0, 1, "stored value")
    description = "numbers"

    def __init__(self, num_train=23, num_val=70, *, endless=False):
        self.built = 0
        self.sizes = (num_train, num_val)
        self.endless = endless

    def datasets(self):
        self.built += 1
        return Numbers(self.sizes[0], endless=self.endless), Numbers(self.sizes[1])


def number_module(source=None, *, channels=1, image_size=4, batch_size=4, num_workers=0, seed=1):
    return ImageDataModule(
        source=source or NumberSource(),
        channels=channels,
        image_size=image_size,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
    )


# The order of the training images


def test_an_epoch_is_the_permutation_of_its_counter_seed_without_the_incomplete_batch():
    sampler = ResumableBatchSampler(10, 4, seed=7, endless=False)
    for epoch in range(3):
        order = torch.randperm(10, generator=torch.Generator().manual_seed(counter_seed("order", 7, epoch))).tolist()
        assert list(sampler) == [order[:4], order[4:8]]
    assert len(sampler) == 2


def test_the_order_depends_on_the_seed():
    first, second = (ResumableBatchSampler(50, 10, seed=seed, endless=False) for seed in (0, 1))
    assert list(first) != list(second)


def test_endless_data_runs_on_without_shuffling():
    sampler = ResumableBatchSampler(5, 2, seed=0, endless=True)
    assert [list(sampler), list(sampler)] == [[[0, 1], [2, 3]], [[5, 6], [7, 8]]]


@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize("start", [0, 1, 3, 4, 9])
def test_a_sampler_can_start_anywhere(start, endless):
    whole, entered = (ResumableBatchSampler(17, 4, seed=3, endless=endless) for _ in range(2))
    entered.start_at(start)
    batches = [batch for _ in range(5) for batch in whole]  # 4 batches an epoch
    assert [*entered, *entered] == batches[start : start + 8]


def test_batches_that_were_drawn_ahead_do_not_move_the_next_epoch():
    sampler = ResumableBatchSampler(12, 4, seed=0, endless=False)
    next(iter(sampler))
    assert list(sampler) == [sampler.batch(3), sampler.batch(4), sampler.batch(5)]


# Exact resume under Lightning


class Recorder(pl.LightningModule):
    """Two optimizers stepped by hand, as a GAN does; remembers which images it was given."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.automatic_optimization = False
        self.layer = nn.Linear(1, 1)
        self.seen = []
        self.fail_at = fail_at

    def configure_optimizers(self):
        return [torch.optim.SGD(self.layer.parameters(), 0.1) for _ in range(2)]

    def training_step(self, batch, batch_idx):
        if len(self.seen) == self.fail_at:
            raise RuntimeError("interrupted")
        self.seen.append(batch["index"].tolist())
        for optimizer in self.optimizers():
            optimizer.step()

    def validation_step(self, batch, batch_idx):
        pass


class SaveAndStop(pl.Callback):
    """Write a checkpoint in one of the hooks where checkpoints are written, after so many batches, and stop."""

    def __init__(self, hook, batches, path):
        self.hook, self.batches, self.path = hook, batches, path

    def _save(self, hook, trainer, module):
        if hook == self.hook and len(module.seen) == self.batches and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True

    def on_train_batch_end(self, trainer, module, *args):
        self._save("train_batch_end", trainer, module)

    def on_validation_end(self, trainer, module):
        self._save("validation_end", trainer, module)

    def on_train_epoch_end(self, trainer, module):
        self._save("train_epoch_end", trainer, module)

    def on_exception(self, trainer, module, exception):
        self._save("exception", trainer, module)


class SaveAtTheEnd(pl.Callback):
    def __init__(self, path):
        self.path = path

    def on_train_end(self, trainer, module):
        trainer.save_checkpoint(self.path)


def fit(num_workers, *, callbacks=(), ckpt_path=None, fail_at=None, data=None, **options):
    """The indices of the batches of 3 epochs; an epoch has 5 batches."""
    module = Recorder(fail_at)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=options.pop("max_epochs", 3),
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    data = data or number_module(num_workers=num_workers)
    if fail_at is None:
        trainer.fit(module, data, ckpt_path=ckpt_path)
    else:
        with pytest.raises(RuntimeError, match="interrupted"):
            trainer.fit(module, data, ckpt_path=ckpt_path)
    return module.seen


EVERY_2 = {"val_check_interval": 2, "check_val_every_n_epoch": None}  # also across the ends of epochs
SAVES = [
    ("train_batch_end", 1, {}),
    ("train_batch_end", 3, {}),
    ("train_batch_end", 5, {}),  # the last batch of an epoch
    ("train_batch_end", 7, {}),
    ("train_epoch_end", 5, {}),
    ("train_epoch_end", 10, EVERY_2),
    ("validation_end", 10, {}),
    ("validation_end", 2, EVERY_2),
    ("validation_end", 8, EVERY_2),
    ("validation_end", 10, EVERY_2),
    ("exception", 7, {}),  # in the midst of batch 8
    ("train_batch_end", 4, {"limit_train_batches": 3}),
    ("validation_end", 6, {"limit_train_batches": 3}),
]
WITH_WORKERS = [SAVES[1], SAVES[2], SAVES[4], SAVES[8], SAVES[10], SAVES[11]]
resumable = pytest.mark.filterwarnings("ignore", "error:You're resuming from a checkpoint")


@resumable
@pytest.mark.parametrize(
    ("num_workers", "hook", "batches", "options"),
    [(0, *save) for save in SAVES] + [(2, *save) for save in WITH_WORKERS],
)
def test_a_resumed_run_sees_the_images_of_an_uninterrupted_one(num_workers, hook, batches, options, tmp_path):
    expected = fit(0, **options)
    checkpoint = tmp_path / "run.ckpt"
    stop = SaveAndStop(hook, batches, checkpoint)
    before = fit(num_workers, callbacks=[stop], fail_at=batches if hook == "exception" else None, **options)
    after = fit(num_workers, ckpt_path=checkpoint, **options)
    assert before[:batches] + after == expected
    assert len(before) == batches


@resumable
def test_epochs_under_lightning_are_those_of_the_sampler():
    sampler = ResumableBatchSampler(23, 4, seed=1, endless=False)
    expected = [sampler.batch(number) for number in range(15)]
    assert fit(0) == expected
    assert fit(2) == expected


@resumable
def test_max_steps_stops_and_resumes_in_the_midst_of_an_epoch(tmp_path):
    # 14 optimizer steps are 7 batches of two. Lightning takes the epoch that max_steps cut short for a whole one; the
    # images go on with the batch after the last all the same.
    save = SaveAtTheEnd(tmp_path / "run.ckpt")
    before = fit(0, callbacks=[save], max_steps=14, max_epochs=None)
    after = fit(0, ckpt_path=tmp_path / "run.ckpt", max_steps=30, max_epochs=None)
    assert len(before) == 7
    assert before + after == fit(0)


@resumable
def test_resuming_with_another_batch_size_is_said(tmp_path, caplog):
    fit(0, callbacks=[SaveAndStop("train_batch_end", 3, tmp_path / "run.ckpt")])
    caplog.clear()
    fit(0, ckpt_path=tmp_path / "run.ckpt", data=number_module(batch_size=5), max_epochs=1)
    assert [record.message for record in caplog.records if record.name.startswith("medsynth")] == [
        "Resumed with other training data (batch_size 4 -> 5): the order of the images is a new one."
    ]


# The data module


def test_the_datasets_are_built_once():
    source = NumberSource()
    data = number_module(source)
    data.prepare()
    data.setup("fit")
    data.train_dataloader()
    assert source.built == 1
    assert (data.num_train, data.num_val, data.num_classes, data.class_names) == (23, 70, 2, ("even", "odd"))
    assert (data.description, data.intensity) == (source.description, source.intensity)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loaders(num_workers):
    data = number_module(num_workers=num_workers)
    train = list(data.train_dataloader())
    assert [batch["image"].shape for batch in train] == [(4, 1, 4, 4)] * 5
    for batch in train:
        assert type(batch["image"]) is torch.Tensor
        assert torch.equal(batch["image"][:, 0, 0, 0], batch["index"] / 1000)
        assert torch.equal(batch["label"], batch["index"] % 2)
        assert batch["label"].dtype == torch.int64
    val = list(data.val_dataloader())
    assert torch.cat([batch["index"] for batch in val]).tolist() == list(range(70))


def test_by_hand_each_pass_over_the_training_loader_is_another_epoch():
    loader = number_module(num_workers=0).train_dataloader()
    first, second = ([batch["index"].tolist() for batch in loader] for _ in range(2))
    sampler = ResumableBatchSampler(23, 4, seed=1, endless=False)
    assert first + second == [sampler.batch(number) for number in range(10)]


def test_endless_data_never_repeats():
    loader = number_module(NumberSource(8, endless=True)).train_dataloader()
    seen = [index for _ in range(3) for batch in loader for index in batch["index"].tolist()]
    assert seen == list(range(24))


def test_calibration_batches_depend_on_the_seed_and_leave_the_order_alone():
    data, undisturbed = number_module(), number_module()
    loader = data.train_dataloader()
    batches = data.calibration_batches(7)  # more than an epoch
    assert [batch.shape for batch in batches] == [(4, 1, 4, 4)] * 7
    assert all(map(torch.equal, batches, number_module().calibration_batches(7)))
    assert not all(map(torch.equal, batches, number_module(seed=2).calibration_batches(7)))
    assert len(torch.cat(batches[:5]).unique()) == 20  # distinct images
    assert not torch.equal(batches[0], next(iter(undisturbed.train_dataloader()))["image"])
    for batch, other in zip(loader, undisturbed.train_dataloader(), strict=True):
        assert torch.equal(batch["index"], other["index"])


def test_val_images_are_the_first_ones():
    data = number_module()
    assert torch.equal(data.val_images(3)[:, 0, 0, 0], torch.tensor([0, 0.001, 0.002]))
    assert data.val_images(1000).shape == (70, 1, 4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 24}, r"data\.batch_size=24 is more than the 23 training images"),
        ({"batch_size": 1}, r"data\.batch_size=1 is too small"),
        ({"channels": 3}, r"data\.channels=3 and data\.image_size=4 ask for images of shape \(3, 4, 4\).*\(1, 4, 4\)"),
        ({"image_size": 8}, r"data\.image_size=8"),
    ],
)
def test_what_does_not_fit_the_data_is_said(options, message):
    with pytest.raises(InputError, match=message):
        number_module(**options).prepare()


# Images in a folder


def write_images(folder, count, *, size=(8, 8), start=0):
    """Gray PNG files; image i has the values i and 255 - i."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        values = np.full(size, i, np.uint8)
        values[0, 0] = 255 - i
        Image.fromarray(values).save(folder / f"{i:03}.png")


def folder_source(root, **options):
    return ImageFolder(str(root), **{"channels": 1, "image_size": 8, **options})


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def read(path, *, channels=1, image_size=8, resize="crop", low=0.0, high=255.0):
    return reader(image_size, channels=channels, resize=resize, low=low, high=high)(str(path))


RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4  # no symmetry: a flip or a transposition would show
COLORS = np.stack([RAMP, RAMP[::-1], RAMP.T], -1)
LUMA = 0.299 * COLORS[..., 0] + 0.587 * COLORS[..., 1] + 0.114 * COLORS[..., 2]  # ITU-R BT.601


def alpha(image):
    image.putalpha(Image.fromarray(RAMP.T))
    return image


GRAY_FILES = {
    "l.png": Image.fromarray(RAMP),
    "l.bmp": Image.fromarray(RAMP),
    "l.tif": Image.fromarray(RAMP),
    "la.png": alpha(Image.fromarray(RAMP)),
}
COLOR_FILES = {
    "rgb.png": Image.fromarray(COLORS),
    "rgb.bmp": Image.fromarray(COLORS),
    "rgba.png": alpha(Image.fromarray(COLORS)),
    "p.png": Image.fromarray(COLORS).quantize(256),  # 64 colors: exact
    "cmyk.tif": Image.fromarray(COLORS).convert("CMYK"),  # without black: exact
}


def stored(image):
    """[-1, 1] -> 0 to 255."""
    return (image.numpy() + 1) * 127.5


@pytest.mark.parametrize("name", GRAY_FILES)
def test_gray_files_keep_their_values(name, tmp_path):
    GRAY_FILES[name].save(tmp_path / name)
    np.testing.assert_allclose(stored(read(tmp_path / name)), RAMP[None], atol=1e-4)
    np.testing.assert_allclose(stored(read(tmp_path / name, channels=3)), np.stack([RAMP] * 3), atol=1e-4)


@pytest.mark.parametrize("name", COLOR_FILES)
def test_color_files_keep_their_values_or_become_luma(name, tmp_path):
    COLOR_FILES[name].save(tmp_path / name)
    np.testing.assert_allclose(stored(read(tmp_path / name, channels=3)), COLORS.transpose(2, 0, 1), atol=1e-4)
    np.testing.assert_allclose(stored(read(tmp_path / name))[0], LUMA, atol=0.51)  # rounded to whole numbers


def test_bilevel_files_are_black_and_white(tmp_path):
    Image.fromarray(RAMP > 100).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read(tmp_path / "1.png")[0].numpy(), np.where(RAMP > 100, 1.0, -1.0))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "I;16"), ("a.tif", "I;16"), ("big_endian.tif", "I;16B"), ("lzw.tif", "I;16")]
)
def test_16_bit_files_keep_every_value(name, mode, channels, tmp_path):
    values = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    options = {"compression": "tiff_lzw"} if name.startswith("lzw") else {}
    Image.fromarray(values.astype(">u2") if mode == "I;16B" else values).save(tmp_path / name, **options)
    with Image.open(tmp_path / name) as saved:
        assert saved.mode == mode
    result = read(tmp_path / name, channels=channels, high=65535.0)
    assert result.shape == (channels, 8, 8)
    np.testing.assert_array_equal(((result.double() + 1) * 32767.5).round().numpy()[0], values)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_integer_and_floating_point_tiff_keep_negative_values(dtype, tmp_path):
    values = (np.arange(64).reshape(8, 8) * 50 - 1000).astype(dtype)  # Hounsfield units
    Image.fromarray(values).save(tmp_path / "a.tif")
    result = read(tmp_path / "a.tif", low=-1000.0, high=2150.0)
    np.testing.assert_allclose((result.numpy()[0] + 1) / 2 * 3150 - 1000, values, atol=1e-3)


def test_values_beyond_the_range_are_clipped(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    result = read(tmp_path / "a.png", low=100.0, high=200.0)[0]
    assert (result.min(), result.max()) == (-1, 1)
    np.testing.assert_allclose(result.numpy(), np.clip((RAMP - 150.0) / 50, -1, 1), atol=1e-6)


def test_crop_keeps_the_central_square(tmp_path):
    values = np.zeros((8, 24), np.uint8)
    values[:, 8:16] = RAMP
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_allclose(stored(read(tmp_path / "a.png"))[0], RAMP, atol=1e-4)


def test_fit_keeps_the_whole_image_and_pads_with_the_lowest_intensity(tmp_path):
    Image.fromarray(np.full((8, 16), 200, np.uint8)).save(tmp_path / "a.png")
    result = read(tmp_path / "a.png", resize="fit", low=55.0)[0]
    assert (result[[0, 1, 6, 7]] == -1).all()
    np.testing.assert_allclose(result[2:6].numpy(), 2 * 145 / 200 - 1, atol=1e-6)


def test_stretch_fills_the_square(tmp_path):
    Image.fromarray(np.repeat(RAMP, 2, 1)).save(tmp_path / "a.png")  # 8 x 16, each column twice
    result = stored(read(tmp_path / "a.png", resize="stretch"))[0]
    np.testing.assert_allclose(result[:, 2:6], RAMP[:, 2:6], atol=1e-3)  # apart from the border, linear ramps stay


@pytest.mark.parametrize("resize", ["crop", "fit", "stretch"])
@pytest.mark.parametrize("size", [(40, 40), (40, 40 - 1), (5, 5)])
def test_resizing_neither_aliases_nor_darkens_the_border(resize, size, tmp_path):
    fine = (np.indices(size).sum(0) % 2 * 100 + 100).astype(np.uint8)  # a checkerboard of 100 and 200
    constant = np.full(size, 150, np.uint8)
    for name, values in {"fine.png": fine, "constant.png": constant}.items():
        Image.fromarray(values).save(tmp_path / name)
    result = stored(read(tmp_path / "constant.png", resize=resize, image_size=8))[0]
    inside = result[:, 1:-1] if resize == "fit" else result
    np.testing.assert_allclose(inside, 150, atol=1e-3)
    if size[0] > 8:
        inside = stored(read(tmp_path / "fine.png", resize=resize, image_size=8))[0][:, 1:-1]
        np.testing.assert_allclose(inside, 150, atol=4)


@pytest.mark.parametrize("cache", [True, False])
def test_a_flat_folder_has_no_labels(cache, tmp_path):
    write_images(tmp_path, 20)
    (tmp_path / "notes.txt").write_text("no image")
    source = folder_source(tmp_path, cache=cache)
    train, val = source.datasets()
    assert (len(train), len(val), source.class_names) == (18, 2, ())
    assert not train.endless
    for dataset in (train, val):
        for index in range(len(dataset)):
            item = dataset[index]
            assert sorted(item) == ["image", "index"]
            assert item["index"] == index
            assert (item["image"].shape, item["image"].dtype) == ((1, 8, 8), torch.float32)
            assert type(item["image"]) is torch.Tensor
    values = [
        round(stored(item["image"])[0, 1, 1].item()) for item in itertools.chain(iter_items(train), iter_items(val))
    ]
    assert sorted(values) == list(range(20))  # each image on one side


def iter_items(dataset):
    return (dataset[index] for index in range(len(dataset)))


def class_folders(root):
    write_images(root / "b", 30)
    write_images(root / "a" / "patient_1", 5, start=100)
    write_images(root / "a" / "patient_2", 5, start=105)
    write_images(root / "c", 10, start=200)
    (root / "empty").mkdir()
    return root


def test_labels_follow_the_sorted_class_names_at_any_depth(tmp_path):
    source = folder_source(class_folders(tmp_path))
    train, val = source.datasets()
    assert source.class_names == ("a", "b", "c")
    assert source.intensity == Intensity(0, 255, "stored value")
    assert "50 images, 3 classes" in source.description
    for item in [*iter_items(train), *iter_items(val)]:
        value = round(stored(item["image"])[0, 1, 1].item())
        assert item["label"] == (1 if value < 100 else 0 if value < 200 else 2)


def test_classes_restricts_the_classes(tmp_path):
    source = folder_source(class_folders(tmp_path), classes=["c", "a"])
    train, val = source.datasets()
    assert source.class_names == ("a", "c")
    assert {item["label"] for item in iter_items(train)} == {0, 1}
    assert len(train) + len(val) == 20


def test_the_split_is_stratified_and_fixed(tmp_path):
    root = class_folders(tmp_path)

    def held_out(**options):
        _, val = folder_source(root, **options).datasets()
        return [(item["label"], round(stored(item["image"])[0, 1, 1].item())) for item in iter_items(val)]

    first = held_out(val_fraction=0.2)
    assert [sum(label == wanted for label, _ in first) for wanted in range(3)] == [2, 6, 2]
    assert held_out(val_fraction=0.2) == first
    assert held_out(val_fraction=0.2, split_seed=1) != first
    assert set(held_out(val_fraction=0.1)) < set(first)
    assert [label for label, _ in first] != sorted(label for label, _ in first)  # a grid of the first shows all classes


def test_small_folders_hold_out_two_images(tmp_path):
    write_images(tmp_path, 4)
    train, val = folder_source(tmp_path, val_fraction=0.01).datasets()
    assert (len(train), len(val)) == (2, 2)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_corrupt_files_are_named_or_skipped_and_counted(ending, tmp_path, caplog):
    write_images(tmp_path, 10)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    bad = tmp_path / f"bad.{ending}"
    Image.fromarray(noise).save(bad)
    truncate(bad)
    with pytest.raises(InputError, match=rf"bad\.{ending} cannot be read .*data\.on_corrupt=skip"):
        folder_source(tmp_path).datasets()
    (tmp_path / "text.png").write_text("no image at all")
    source = folder_source(tmp_path, on_corrupt="skip")
    train, val = source.datasets()
    assert len(train) + len(val) == 10
    assert "2 corrupt files left out" in source.description
    assert [message for message in warnings_of(caplog) if "2 of 12 files cannot be read" in message]


def test_conversions_are_said_once_with_counts(tmp_path, caplog):
    write_images(tmp_path, 4)
    for i in range(3):
        Image.fromarray(np.full((12, 20, 4), 40 * i, np.uint8)).save(tmp_path / f"rgba{i}.png")
    folder_source(tmp_path).datasets()
    assert warnings_of(caplog) == [
        "3 of 7 color images become gray by ITU-R 601 luma (data.channels=1).",
        "3 of 7 images lose their alpha channel.",
        "Images of 2 sizes, 8x8 to 20x12, become 8x8 (data.resize=crop).",
    ]
    caplog.clear()
    folder_source(tmp_path, channels=3).datasets()
    assert "4 of 7 gray images are repeated in 3 channels (data.channels=3)." in warnings_of(caplog)


def write_16_bit(folder, high):
    for i in range(4):
        values = np.linspace(0, high, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(values).save(folder / f"{i}.png")


def test_16_bit_files_that_use_few_of_their_values_are_said(tmp_path, caplog):
    write_16_bit(tmp_path, 4095)
    source = folder_source(tmp_path)
    source.datasets()
    assert source.intensity == Intensity(0, 65535, "stored value")
    assert len(warnings_of(caplog)) == 1
    assert "data.intensity_range=[0,4095]" in warnings_of(caplog)[0]
    caplog.clear()
    source = folder_source(tmp_path, intensity_range=[0, 4095], unit="detector count")
    train, _ = source.datasets()
    assert source.intensity == Intensity(0, 4095, "detector count")
    assert (train[0]["image"].min(), train[0]["image"].max()) == (-1, 1)
    assert warnings_of(caplog) == []


def test_clipping_is_said(tmp_path, caplog):
    write_images(tmp_path, 4)
    folder_source(tmp_path, intensity_range=[0, 1]).datasets()
    assert "what lies outside data.intensity_range is clipped" in warnings_of(caplog)[0]


def test_only_the_first_page_is_read_and_that_is_said(tmp_path, caplog):
    write_images(tmp_path, 4)
    pages = [Image.fromarray(RAMP), Image.fromarray(RAMP.T)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    folder_source(tmp_path).datasets()
    assert warnings_of(caplog) == ["1 of 5 files hold several pages, of which the first is read."]


def test_wrong_options_are_said():
    for options, message in [
        ({"channels": 2}, r"data\.channels=2 is not possible: 1 or 3"),
        ({"resize": "warp"}, r"data\.resize=warp is not possible: crop or fit or stretch"),
        ({"on_corrupt": "ignore"}, r"data\.on_corrupt=ignore"),
        ({"val_fraction": 0}, r"data\.val_fraction=0 "),
        ({"val_fraction": 1.0}, r"data\.val_fraction=1\.0"),
        ({"intensity_range": [5, 5]}, r"data\.intensity_range=\[5, 5\]"),
        ({"intensity_range": [1, 2, 3]}, r"data\.intensity_range=\[1, 2, 3\]"),
    ]:
        with pytest.raises(InputError, match=message):
            folder_source("anywhere", **options)


def make_mixed(root):
    write_images(root, 3)
    write_images(root / "a", 4)


def make_mixed_depth(root):
    write_images(root, 4)
    write_16_bit(root, 65535)


def make_floats(root):
    for i in range(4):
        Image.fromarray(np.linspace(-1, i, 64, dtype=np.float32).reshape(8, 8)).save(root / f"{i}.tif")


def make_constant(root):
    for i in range(4):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / f"{i}.png")


def make_nan(root):
    for i in range(4):
        Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(root / f"{i}.tif")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda root: None, {}, "is empty: files ending in .png, .jpg"),
        (lambda root: (root / "a.txt").write_text(""), {}, "holds no image: files ending in .png, .jpg"),
        (lambda root: write_images(root, 3), {}, r"too few images that can be read \(3\)"),
        (make_mixed, {}, "holds 3 images beside the class folders a: move"),
        (make_mixed_depth, {}, r"data\.intensity_range=\[low, high\] is needed for 16-bit and 8-bit images"),
        (make_floats, {}, r"is needed for floating-point images: the stored values span \[-1, 3\]"),
        (make_constant, {}, "one single value, 0"),
        (make_nan, {}, r"0\.tif cannot be read \(it holds values that are not finite"),
        (lambda root: write_images(root, 4), {"classes": ["a"]}, r"data\.classes needs one subfolder per class"),
        (class_folders, {"classes": ["a", "d"]}, r"data\.classes names d, but .* has a, b, c"),
        (lambda root: write_images(root, 4), {"intensity_range": [256, 300]}, "lies beside the stored values"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(make, options, message, tmp_path):
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        folder_source(tmp_path, **options).datasets()


def test_a_root_that_is_no_folder_is_said(tmp_path):
    (tmp_path / "file.png").write_text("")
    for root, message in [
        (None, "data.root is needed: data=image_folder data.root=/path/to/images"),
        (tmp_path / "nothing", "nothing does not exist"),
        (tmp_path / "file.png", "file.png is a file"),
    ]:
        with pytest.raises(InputError, match=message):
            ImageFolder(root and str(root), channels=1, image_size=8).datasets()


def test_color_of_16_bits_is_refused_and_not_cut_to_8(tmp_path):
    write_images(tmp_path, 4)
    with Image.open(tmp_path / "000.png") as image:
        assert image.mode == "L"
    (tmp_path / "deep.png").write_bytes(png_of_16_bit_rgb())
    with pytest.raises(InputError, match=r"deep\.png has several channels of 16 bits"):
        folder_source(tmp_path, channels=3, on_corrupt="skip").datasets()


def png_of_16_bit_rgb():
    """A PNG of 8 x 8 pixels with 16 bits per color channel, put together by hand: Pillow writes none."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(range(48)) for _ in range(8))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_the_configuration_builds_the_data_module(tmp_path):
    write_images(tmp_path, 40)
    config = OmegaConf.create({"seed": 5, "data": OmegaConf.load(CONF / "image_folder.yaml")})
    config.data.root = str(tmp_path)
    config.data.intensity_range = [0, 200]
    data = instantiate(config.data)
    assert isinstance(data, ImageDataModule)
    data.prepare()
    assert (data.seed, data.num_classes, data.num_train, data.num_val) == (5, 0, 36, 4)
    assert data.intensity == Intensity(0, 200, "stored value")
    assert next(iter(data.train_dataloader()))["image"].shape == (32, 1, 64, 64)


def test_the_configuration_names_every_option():
    config = OmegaConf.load(CONF / "image_folder.yaml")
    assert set(config) - {"_target_"} == set(image_folder.__kwdefaults__) | {
        "root",
        "channels",
        "image_size",
        "seed",
        "batch_size",
    }
