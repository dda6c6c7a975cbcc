"""The data module: the order of training images, exact resuming, and loaders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from medsynth.contracts import InputError, Intensity, counter_seed
from medsynth.data.module import ImageDataModule
from medsynth.data.sampler import ResumableBatchSampler
from medsynth.data.source import Datasets

CONF = Path(__file__).parents[1] / "conf" / "data"


class Numbers(torch.utils.data.Dataset):
    """A source whose image i is constant with the value i / 1000."""

    varies = False

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
    spacing = None
    modality = ""
    description = "numbers"

    def __init__(self, num_train=23, num_val=70, *, endless=False):
        self.built = 0
        self.sizes = (num_train, num_val)
        self.endless = endless

    def datasets(self):
        self.built += 1
        return Datasets(Numbers(self.sizes[0], endless=self.endless), Numbers(self.sizes[1]))


def number_module(source=None, *, channels=1, image_size=4, batch_size=4, num_workers=0, seed=1, **options):
    return ImageDataModule(
        source=source or NumberSource(),
        channels=channels,
        image_size=image_size,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        **options,
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


def test_endless_data_continues_without_shuffling():
    sampler = ResumableBatchSampler(5, 2, seed=0, endless=True)
    assert [list(sampler), list(sampler)] == [[[0, 1], [2, 3]], [[5, 6], [7, 8]]]


@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize("start", [0, 1, 3, 4, 9])
def test_a_sampler_can_start_anywhere(start, endless):
    whole, entered = (ResumableBatchSampler(17, 4, seed=3, endless=endless) for _ in range(2))
    entered.start_at(start)
    batches = [batch for _ in range(5) for batch in whole]  # 4 batches an epoch
    assert [*entered, *entered] == batches[start : start + 8]


def test_prefetched_batches_do_not_move_the_next_epoch():
    sampler = ResumableBatchSampler(12, 4, seed=0, endless=False)
    next(iter(sampler))
    assert list(sampler) == [sampler.batch(3), sampler.batch(4), sampler.batch(5)]


# Classes drawn equally often

LABELS = [0] * 20 + [1] * 3 + [3] * 2  # of 25 images; class 2 has none


def test_all_classes_are_drawn_equally_often_and_each_image_as_often_as_the_others_of_its_class():
    sampler = ResumableBatchSampler(25, 5, seed=3, endless=False, labels=LABELS)
    epochs = [[index for batch in sampler for index in batch] for _ in range(12)]
    for epoch in epochs:
        drawn = Counter(LABELS[index] for index in epoch)
        assert set(drawn) == {0, 1, 3}
        assert max(drawn.values()) - min(drawn.values()) <= 1
    times = Counter(index for epoch in epochs for index in epoch)
    assert [times[index] for index in range(20)] == [5] * 20  # 100 of the 300 draws
    assert sorted(times[index] for index in range(20, 23)) == [33, 33, 34]
    assert [times[23], times[24]] == [50, 50]
    assert epochs[0] != sorted(epochs[0])
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("start", [0, 1, 3, 4, 9])
@pytest.mark.parametrize("varies", [False, True])
def test_a_balanced_sampler_can_start_anywhere_and_is_shared_by_processes(start, varies):
    options = {"seed": 3, "endless": False, "varies": varies, "labels": LABELS}
    whole, entered = (ResumableBatchSampler(25, 6, **options) for _ in range(2))
    entered.start_at(start)
    batches = [batch for _ in range(5) for batch in whole]
    assert [*entered, *entered] == batches[start : start + 8]
    shares = [ResumableBatchSampler(25, 6, **options, rank=rank, world_size=2) for rank in range(2)]
    assert [sorted(one + other) for one, other in zip(*shares, strict=True)] == [sorted(batch) for batch in batches[:4]]


def test_each_draw_of_an_image_that_varies_is_another_view():
    sampler = ResumableBatchSampler(25, 25, seed=3, endless=False, varies=True, labels=LABELS)
    drawn = [index for _ in range(6) for batch in sampler for index in batch]
    assert len(set(drawn)) == len(drawn)
    assert {index % 25 for index in drawn} == set(range(25))
    plain = ResumableBatchSampler(25, 25, seed=3, endless=False, labels=LABELS)
    assert [index % 25 for index in drawn] == [index for _ in range(6) for batch in plain for index in batch]


# Exact resume under Lightning


class Recorder(pl.LightningModule):
    """A module with two manually stepped optimizers, like a GAN, that records the images it sees."""

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
    """Write a checkpoint in one of the hooks that write checkpoints, after a number of batches, and stop."""

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
    """Return the indices of the batches of 3 epochs with 5 batches each."""
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
    [(0, *save) for save in SAVES]
    + [(2, *save) for save in WITH_WORKERS[::2]]
    + [pytest.param(2, *save, marks=pytest.mark.slow) for save in WITH_WORKERS[1::2]],
)
def test_a_resumed_run_sees_the_images_of_an_uninterrupted_one(num_workers, hook, batches, options, tmp_path):
    expected = fit(0, **options)
    checkpoint = tmp_path / "run.ckpt"
    stop = SaveAndStop(hook, batches, checkpoint)
    before = fit(num_workers, callbacks=[stop], fail_at=batches if hook == "exception" else None, **options)
    after = fit(num_workers, ckpt_path=checkpoint, **options)
    assert before[:batches] + after == expected
    assert len(before) == batches


class LabeledNumbers(Numbers):
    """Numbers of which the first three are of class 1."""

    @property
    def labels(self):
        return torch.arange(self.length).lt(3).long()


class LabeledSource(NumberSource):
    def datasets(self):
        return Datasets(LabeledNumbers(self.sizes[0]), LabeledNumbers(self.sizes[1]))


@resumable
@pytest.mark.parametrize(
    ("num_workers", "hook", "batches", "options"), [(0, *SAVES[1]), (2, *SAVES[8]), (0, *SAVES[10])]
)
def test_a_resumed_balanced_run_sees_the_images_of_an_uninterrupted_one(num_workers, hook, batches, options, tmp_path):
    def balanced(num_workers=0):
        return number_module(LabeledSource(), num_workers=num_workers, balance_classes=True)

    expected = fit(0, data=balanced(), **options)
    assert sum(index < 3 for batch in expected for index in batch) in (29, 30, 31)  # half of 60
    checkpoint = tmp_path / "run.ckpt"
    stop = SaveAndStop(hook, batches, checkpoint)
    fail_at = batches if hook == "exception" else None
    before = fit(num_workers, callbacks=[stop], fail_at=fail_at, data=balanced(num_workers), **options)
    after = fit(num_workers, ckpt_path=checkpoint, data=balanced(num_workers), **options)
    assert before[:batches] + after == expected


@resumable
def test_resuming_without_the_balance_is_logged(tmp_path, caplog):
    data = number_module(LabeledSource(), balance_classes=True)
    fit(0, callbacks=[SaveAndStop("train_batch_end", 3, tmp_path / "run.ckpt")], data=data)
    caplog.clear()
    data = number_module(LabeledSource())
    fit(0, ckpt_path=tmp_path / "run.ckpt", data=data, max_epochs=1)
    assert "(balance_classes True -> False)" in caplog.text


@pytest.mark.parametrize("source", [NumberSource(), NumberSource(endless=True)])
def test_classes_that_are_not_known_cannot_be_balanced(source):
    with pytest.raises(InputError, match=r"data\.balance_classes=true needs training images with classes"):
        number_module(source, balance_classes=True).train_dataloader()


@resumable
def test_lightnings_epochs_equal_the_samplers():
    sampler = ResumableBatchSampler(23, 4, seed=1, endless=False)
    expected = [sampler.batch(number) for number in range(15)]
    assert fit(0) == expected
    assert fit(2) == expected


@resumable
def test_max_steps_stops_and_resumes_within_an_epoch(tmp_path):
    # 14 optimizer steps are 7 batches of two. Lightning takes the epoch that max_steps cut short for a whole one; the
    # images go on with the batch after the last all the same.
    save = SaveAtTheEnd(tmp_path / "run.ckpt")
    before = fit(0, callbacks=[save], max_steps=14, max_epochs=None)
    after = fit(0, ckpt_path=tmp_path / "run.ckpt", max_steps=30, max_epochs=None)
    assert len(before) == 7
    assert before + after == fit(0)


@resumable
def test_resuming_with_another_batch_size_is_logged(tmp_path, caplog):
    fit(0, callbacks=[SaveAndStop("train_batch_end", 3, tmp_path / "run.ckpt")])
    caplog.clear()
    fit(0, ckpt_path=tmp_path / "run.ckpt", data=number_module(batch_size=5), max_epochs=1)
    logged = [record.message for record in caplog.records if record.name.startswith("medsynth")]
    assert [text for text in logged if "70 validation images are few" not in text] == [
        "The run resumes with a different order of the training images (batch_size 4 -> 5): its results differ from "
        "those of an uninterrupted run."
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
def test_loaders_yield_all_images(num_workers):
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


def test_without_a_trainer_each_pass_over_the_loader_is_a_new_epoch():
    loader = number_module(num_workers=0).train_dataloader()
    first, second = ([batch["index"].tolist() for batch in loader] for _ in range(2))
    sampler = ResumableBatchSampler(23, 4, seed=1, endless=False)
    assert first + second == [sampler.batch(number) for number in range(10)]


def test_endless_data_never_repeats():
    loader = number_module(NumberSource(8, endless=True)).train_dataloader()
    seen = [index for _ in range(3) for batch in loader for index in batch["index"].tolist()]
    assert seen == list(range(24))


def test_calibration_batches_depend_on_the_seed_and_do_not_change_the_order():
    data, undisturbed = number_module(), number_module()
    loader = data.train_dataloader()
    batches = data.calibration_batches(7)  # more than an epoch
    assert [batch["image"].shape for batch in batches] == [(4, 1, 4, 4)] * 7
    batches, again, other = (
        [batch["image"] for batch in found]
        for found in (batches, number_module().calibration_batches(7), number_module(seed=2).calibration_batches(7))
    )
    assert all(map(torch.equal, batches, again))
    assert not all(map(torch.equal, batches, other))
    assert len(torch.cat(batches[:5]).unique()) == 20  # distinct images
    assert not torch.equal(batches[0], next(iter(undisturbed.train_dataloader()))["image"])
    for batch, other in zip(loader, undisturbed.train_dataloader(), strict=True):
        assert torch.equal(batch["index"], other["index"])


def test_val_batch_has_the_first_validation_images():
    data = number_module()
    assert torch.equal(data.val_batch(3)["image"][:, 0, 0, 0], torch.tensor([0, 0.001, 0.002]))
    assert data.val_batch(1000)["image"].shape == (70, 1, 4, 4)


@pytest.mark.parametrize("known", [True, False])
def test_val_images_of_classes_are_in_the_order_of_the_labels(known):
    data = number_module()
    labels = np.arange(70) % 5
    samples = [data.val_dataset[index] | {"label": int(labels[index])} for index in range(70)]
    val = type("Val", (list,), {"labels": labels} if known else {})(samples)
    data._datasets = data.datasets._replace(val=val)
    values = data.val_images_of([2, 2, 0, 4, 9])[:, 0, 0, 0]
    assert values.tolist() == pytest.approx([0.002, 0.007, 0.0, 0.004, -1.0]), "class 9 has no image"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 24}, r"data\.batch_size=24 is more than the 23 training images"),
        ({"batch_size": 1}, r"data\.batch_size=1 is too small"),
        ({"channels": 3}, r"data\.channels=3 and data\.image_size=4 mean images of shape \(3, 4, 4\).*\(1, 4, 4\)"),
        ({"image_size": 8}, r"data\.image_size=8"),
    ],
)
def test_options_that_do_not_fit_the_data_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        number_module(**options).prepare()


@pytest.mark.parametrize("name", ["channels", "image_size", "batch_size", "num_workers", "seed"])
@pytest.mark.parametrize("value", [{}, None, "x", [[1]], -1e300])
def test_numbers_of_a_damaged_record_are_refused_in_a_sentence(name, value):
    numbers = {"channels": 1, "image_size": 16, "batch_size": 8, "seed": 0} | {name: value}
    with pytest.raises(InputError, match=rf"^data\.{name}=.* is not a whole number: type one, as data\.{name}=\d+\.$"):
        ImageDataModule(source=None, **numbers)
