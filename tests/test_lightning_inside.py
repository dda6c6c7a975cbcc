"""The internals of pytorch-lightning that medsynth relies on, one test each.

A new version of Lightning that changes one of them fails here, and the comment says which file has to follow.
"""

import inspect
import signal

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint, Timer
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.strategies import DDPStrategy

from medsynth.lightning.checkpoint_io import AtomicCheckpointIO
from medsynth.lightning.half_precision import HalfPrecision
from medsynth.lightning.last_checkpoint import RunStopped
from tests.test_gan import Images, SaveAndStop, fit, gan

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Watch(pl.Callback):
    """Calls the functions given by the names of hooks, and notes the hooks of one kind in their order."""

    def __init__(self, **hooks):
        for name, function in hooks.items():
            setattr(self, name, function)


def train(max_images=64, *, callbacks=(), data=None, **options):
    """Train; returns (the model, its trainer)."""
    model = gan(max_images=max_images)
    return model, fit(model, data or Images(), callbacks=list(callbacks), **options)


# ---- hooks and their order -------------------------------------------------------------------------------------------


def test_checkpoint_callbacks_come_after_all_others():
    """lightning/last_checkpoint.py: a checkpoint is written when the other callbacks have recorded the step."""
    calls = []

    class Last(Checkpoint):
        def on_train_batch_end(self, *_):
            calls.append("checkpoint")

    assert not issubclass(Last, ModelCheckpoint)

    other = Watch(on_train_batch_end=lambda *_: calls.append("other"))
    fit(gan(max_images=8), callbacks=[Last(), other], enable_checkpointing=True)
    assert calls == ["other", "checkpoint"]


def test_hooks_of_callbacks_come_before_those_of_the_module():
    """lightning/last_checkpoint.py listens to signals before the module calibrates and fills the feature cache."""
    calls = []
    model = gan(max_images=8)
    model.on_train_start = lambda: calls.append("module")
    fit(model, callbacks=[Watch(on_train_start=lambda *_: calls.append("callback"))])
    assert calls == ["callback", "module"]


def test_the_modules_checkpoint_is_loaded_before_those_of_callbacks(tmp_path):
    """lightning/last_checkpoint.py compares ``images_seen`` of the module with ``max_images`` as it loads."""
    train(32, callbacks=[SaveAndStop(tmp_path / "a.ckpt", 16)])
    seen = []
    again = gan(max_images=32)
    trainer = pl.Trainer(
        logger=False,
        accelerator="cpu",
        max_epochs=-1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Watch(on_load_checkpoint=lambda trainer, model, checkpoint: seen.append(model.images_seen))],
    )
    trainer.fit(again, Images(), ckpt_path=tmp_path / "a.ckpt")
    assert seen == [16]
    assert again.images_seen == 32


def test_a_step_that_sets_should_stop_is_the_last_and_is_followed_by_a_validation():
    """gan.py ends a training at ``max_images`` so."""
    validations = []
    watch = Watch(on_validation_end=lambda trainer, model: validations.append(model.images_seen))
    train(24, callbacks=[watch], val_check_interval=1000)
    assert validations == [24]


def test_values_of_a_step_reach_callbacks_as_they_are():
    """lightning/record.py and progress.py: what the step returns is ``outputs``."""
    outputs = []
    train(8, callbacks=[Watch(on_train_batch_end=lambda trainer, model, values, *_: outputs.append(values))])
    assert {"discriminator_loss", "generator_loss", "generator_gradient_norm"} <= set(outputs[0])


def test_values_of_a_validation_are_in_callback_metrics_when_it_ends():
    """lightning/record.py, generator_export.py and progress.py read them there; the module logs them without logger."""
    found = []
    train(8, callbacks=[Watch(on_validation_end=lambda trainer, _: found.append(dict(trainer.callback_metrics)))])
    assert set(found[0]) == {"val/distance", "val/num_real", "val/num_fake"}


# ---- the trainer -----------------------------------------------------------------------------------------------------


def test_attributes_of_the_trainer():
    """Who asks for them: lightning/last_checkpoint.py, record.py, trainer_access.py, module.py, data/module.py."""
    data, found = Images(), {}

    def look(trainer, model, *_):
        found["total"] = trainer.fit_loop.total_batch_idx  # last_checkpoint.py
        found["processed"] = trainer.fit_loop.epoch_loop.batch_progress.total.processed  # data/module.py
        found["batches"] = trainer.num_training_batches  # last_checkpoint.py
        found["check"] = trainer.val_check_batch  # last_checkpoint.py
        found["log"] = trainer.log_every_n_steps  # record.py
        found["data"] = trainer.datamodule  # trainer_access.py
        found["loader"] = trainer.train_dataloader  # trainer_access.py: the loader itself, not a combination of loaders
        found["world"] = (trainer.world_size, trainer.global_rank)  # gan.py
        found["precision"] = trainer.precision_plugin  # module.py
        found["monitor"] = trainer.checkpoint_callback  # progress.py: None without a ModelCheckpoint

    loader = data.train_dataloader()
    data.train_dataloader = lambda: loader
    train(24, callbacks=[Watch(on_train_batch_end=look)], data=data, val_check_interval=5)
    assert found["total"] == 2, "the number of the batch, from 0"
    assert found["processed"] == 3, "batches trained"
    assert (found["batches"], found["check"], found["log"]) == (8, 5, 50)
    assert found["data"] is data
    assert found["loader"] is loader
    assert found["world"] == (1, 0)
    assert hasattr(found["precision"], "forward_context")
    assert found["monitor"] is None


def test_the_interval_of_validations_is_asked_after_each_step():
    """lightning/last_checkpoint.py sets ``val_check_batch`` to 1 to have a validation that is due done at once."""
    validations = []

    def due(trainer, model):
        trainer.val_check_batch = 1

    def validated(trainer, model):
        validations.append(model.images_seen)
        trainer.val_check_batch = 4

    train(64, callbacks=[Watch(on_train_start=due, on_validation_end=validated)], val_check_interval=1000)
    assert validations == [8, 32, 64]


def test_the_numbers_of_validation_batches_are_known_when_a_validation_starts():
    """lightning/last_checkpoint.py: processes agree as often as the one with the fewest batches can."""
    found = []
    train(8, callbacks=[Watch(on_validation_start=lambda trainer, _: found.append(sum(trainer.num_val_batches)))])
    assert found == [3]


def test_optimizers_are_wrapped_in_the_order_of_configure_optimizers():
    """lightning/updating.py and half_precision.py."""
    found = {}

    def look(trainer, model, *_):
        wrapped, plain = model.optimizers(), model.optimizers(use_pl_optimizer=False)
        found["same"] = [one.optimizer is other for one, other in zip(wrapped, plain, strict=True)]
        found["first"] = wrapped[0].param_groups[0]["params"][0] is next(model.generator.parameters())

    train(8, callbacks=[Watch(on_train_batch_end=look)])
    assert found == {"same": [True, True], "first": True}


# ---- signals and interruption ----------------------------------------------------------------------------------------


def test_handlers_of_signals_are_put_back_after_a_fit():
    """lightning/stop_signals.py takes the place of Lightning's, set before ``on_train_start``, and never puts back."""
    before = [signal.getsignal(number) for number in SIGNALS]

    def listen(*_):
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)

    train(8, callbacks=[Watch(on_train_start=listen)])
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize(
    ("raised", "arrives"), [(KeyboardInterrupt(), SystemExit), (RunStopped(requeue=True), RunStopped)], ids=str
)
def test_interruptions_end_a_fit(raised, arrives):
    """A run that was stopped ends with either: Lightning turns Ctrl-C into an exit and leaves an exit alone."""

    def interrupt(*_):
        raise raised

    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(arrives):
            train(64, callbacks=[Watch(on_train_batch_end=interrupt)])
    finally:
        signal.signal(signal.SIGINT, handler)


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def saved(tmp_path, *, callbacks=(), **options):
    """Train three steps and a validation; returns the checkpoint that was written at its end."""
    path = tmp_path / "a.ckpt"
    _, trainer = train(24, callbacks=callbacks, **options)
    trainer.save_checkpoint(path)
    return torch.load(path, weights_only=True)


def test_what_a_checkpoint_holds_of_the_loops(tmp_path):
    """lightning/last_checkpoint.py rewrites these counters (``_set_position``)."""
    loops = saved(tmp_path)["loops"]["fit_loop"]
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    assert batches["total"] == {"ready": 3, "completed": 3, "started": 3, "processed": 3}
    assert set(batches) == {"total", "current", "is_last_batch"}
    assert set(epochs) >= {"total", "current"}
    assert epochs["total"].keys() == batches["total"].keys()
    validation = loops["epoch_loop.val_loop.batch_progress"]
    assert validation["total"] == {"ready": 3, "completed": 3, "started": 3, "processed": 3}
    assert "is_last_batch" in validation


def test_callbacks_may_change_what_is_saved(tmp_path):
    """lightning/last_checkpoint.py and provenance.py: states and counters are in the checkpoint that the hook gets."""
    found = {}

    def look(trainer, model, checkpoint):
        found.update(loops=checkpoint["loops"], callbacks=checkpoint["callbacks"])
        checkpoint["own"] = {"number": 3}

    class Stateful(pl.Callback):
        def state_dict(self):
            return {"value": 5}

    checkpoint = saved(tmp_path, callbacks=[Watch(on_save_checkpoint=look), Stateful()])
    assert checkpoint["own"] == {"number": 3}
    assert found["loops"].keys() == checkpoint["loops"].keys()
    assert {"value": 5} in found["callbacks"].values()


def test_names_of_the_states_of_lightnings_callbacks(tmp_path):
    """lightning/last_checkpoint.py moves the paths of the one, and drops the other, which ``max_time`` brings."""
    best = ModelCheckpoint(dirpath=tmp_path, monitor="val/distance", filename="best")
    states = saved(tmp_path, callbacks=[best, Timer(duration="00:01:00:00")], enable_checkpointing=True)["callbacks"]
    (state,) = [state for key, state in states.items() if key.startswith(ModelCheckpoint.__qualname__)]
    assert {"dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "best_k_models"} <= set(state)
    assert "Timer" in states


def test_an_interrupted_validation_is_told_by_its_counters():
    """lightning/last_checkpoint.py writes such counters (``_interrupt_validation``), so that it is done once more."""
    found = {}

    def look(trainer, model):
        loop = trainer.fit_loop.epoch_loop.val_loop
        state = loop.state_dict()
        state["batch_progress"]["total"].update(ready=1, started=1, processed=0, completed=0)
        loop.load_state_dict(state)
        loop._restarting = True  # as when a checkpoint is restored
        loop.update_restart_stage()
        found["interrupted"] = loop.restarted_mid_evaluation
        loop.reset_restart_stage()
        loop._restarting = False

    train(8, callbacks=[Watch(on_train_end=look)])
    assert found == {"interrupted": True}


def test_options_of_storage_reach_the_plugin(tmp_path):
    """lightning/last_checkpoint.py hands the number of older files to lightning/checkpoint_io.py so."""
    _, trainer = train(8, plugins=[AtomicCheckpointIO()])
    for _ in range(3):
        trainer.save_checkpoint(tmp_path / "last.ckpt", weights_only=False, storage_options={"keep": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last-1.ckpt", "last.ckpt"]


def test_signatures_of_the_checkpoint_plugin():
    """lightning/checkpoint_io.py overrides both."""
    for name in ("save_checkpoint", "load_checkpoint"):
        theirs, ours = (inspect.signature(getattr(owner, name)) for owner in (TorchCheckpointIO, AtomicCheckpointIO))
        assert list(theirs.parameters) == list(ours.parameters)


def test_a_loader_with_a_state_is_saved_and_resumed(tmp_path):
    """data/loaders.py: ``TrainLoader.state_dict`` says what the order of the images depends on."""

    loaded = []

    class Loader(torch.utils.data.DataLoader):
        def state_dict(self):
            return {"seed": 5}

        def load_state_dict(self, state):
            loaded.append(state)

    class Resumable(Images):
        def train_dataloader(self):
            return Loader(self.items(), self.batch_size, drop_last=True)

    train(16, data=Resumable(), callbacks=[SaveAndStop(tmp_path / "a.ckpt", 8)])
    again = pl.Trainer(
        logger=False,
        accelerator="cpu",
        max_epochs=-1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    again.fit(gan(max_images=16), Resumable(), ckpt_path=tmp_path / "a.ckpt")
    assert loaded == [{"seed": 5}]


# ---- precision and processes -----------------------------------------------------------------------------------------


def test_mixed_precision_without_a_scaler_scales_nothing():
    """lightning/half_precision.py sets ``scaler`` to None and scales each network's loss itself."""
    plugin = HalfPrecision("cpu")
    assert plugin.scaler is None
    losses = []
    watch = Watch(on_before_backward=lambda trainer, model, loss: losses.append(loss.item()))
    _, trainer = train(8, plugins=[plugin], callbacks=[watch])
    own = [trainer.precision_plugin.scalers[name].get_scale() for name in ("discriminator", "generator")]
    assert own == [2.0**12, 2.0**12]
    assert all(0.1 < loss / 2**12 < 3 for loss in losses), "scaled once"
    theirs, ours = (inspect.signature(owner.optimizer_step) for owner in (MixedPrecision, HalfPrecision))
    assert list(theirs.parameters) == list(ours.parameters)


def test_the_state_of_a_precision_plugin_is_in_the_checkpoint_by_its_class_name(tmp_path):
    """lightning/half_precision.py: scalers are resumed."""
    assert set(saved(tmp_path, plugins=[HalfPrecision("cpu")])["HalfPrecision"]) == {"generator", "discriminator"}


def test_the_hook_that_wraps_the_module_for_several_processes():
    """lightning/distributed.py overrides it, to wrap nothing."""
    assert list(inspect.signature(DDPStrategy.configure_ddp).parameters) == ["self"]
    assert "self.configure_ddp()" in inspect.getsource(DDPStrategy.setup)
