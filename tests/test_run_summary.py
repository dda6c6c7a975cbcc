"""What summary.json says of the machine, after Lightning has moved the networks back to the CPU."""

from types import SimpleNamespace

import pytest
import torch

from medsynth.errors import EndCode
from medsynth.lightning.generator_export import GeneratorExport
from medsynth.lightning.run_summary import RunSummary
from medsynth.runs.records import read_json
from medsynth.runs.run_end import RunEnd

GIB = 2**30


class Model:
    """The members of a task's module that the summary reads; its networks are on the CPU."""

    device = torch.device("cpu")
    counters, images_seen = (), 8

    def describe(self):
        return "networks"

    def parameter_counts(self):
        return {}

    def next_command(self, run):
        return f"medsynth generate run={run}"


def summary_of(folder, device):
    export = GeneratorExport(path=folder / "generator.safetensors", objective="val/fd_mini", config={})
    data = SimpleNamespace(
        description="images",
        content="",
        split_by="blocks",
        num_train=4,
        num_val=2,
        num_test=0,
        val_batch=lambda count: {"image": torch.zeros(count, 1, 4, 4)},
    )
    trainer = SimpleNamespace(
        callbacks=[export],
        callback_metrics={},
        datamodule=data,
        precision="32-true",
        strategy=SimpleNamespace(root_device=device),
        world_size=1,
    )
    RunSummary(folder, trainer, Model(), better={}).write(RunEnd(EndCode.COMPLETED))
    return read_json(folder / "summary.json")


@pytest.fixture
def with_gpu(monkeypatch):
    """A machine with a GPU, of whose memory a training has used 3 GiB."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "a GPU")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: 3 * GIB)


def test_summary_names_the_gpu_of_the_training_and_its_memory(with_gpu, tmp_path):
    summary = summary_of(tmp_path, torch.device("cuda", 0))
    assert (summary["device"], summary["environment"]["device"]) == ("a GPU", "a GPU")
    assert summary["peak_memory_gib"] == 3
    assert summary["environment"]["split_by"] == "blocks"


def test_summary_of_a_training_on_the_cpu_of_such_a_machine_has_the_memory_of_the_process(with_gpu, tmp_path):
    summary = summary_of(tmp_path, torch.device("cpu"))
    assert summary["device"].startswith("cpu")
    assert 0 < summary["peak_memory_gib"] != 3
