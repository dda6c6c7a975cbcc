"""Surroundings of all tests: one thread, no network or W&B by accident, and a cache of prepared images of their own."""

import gc
import os
import signal

os.environ["OMP_NUM_THREADS"] = "1"  # of this process and of those that it starts: several tests run at a time
os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("WANDB_API_KEY", None)

import pytest
import torch

from tests.shortcuts import take_shortcuts

torch.set_num_threads(1)

# A million objects of libraries live until the end: without looking at them again and again the tests take less time.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 100)

# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that: the tests that send the
# signal would wait in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure():
    """Give the objects of libraries back to the collector, or extensions report them as leaked."""
    gc.unfreeze()


def pytest_collection_modifyitems(items):
    """Refuse tests whose names hold addresses: they differ between the processes that share the tests."""
    named = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if named:
        raise pytest.UsageError(f"{named[0]}: choose ids without addresses of objects.")


@pytest.fixture(autouse=True, scope="session")
def _shortcuts():
    with pytest.MonkeyPatch.context() as patch:
        take_shortcuts(patch)
        yield


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
