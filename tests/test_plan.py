"""The command medsynth plan: measurements are right, estimates agree with sums by hand, bad input is refused."""

import json

import pytest
import torch

from medsynth.penalty.r1 import R1
from medsynth.planning.disk import disk_bytes
from medsynth.planning.estimate import Line, estimate, exchange_seconds, fitting_accumulate, line_through, sent_bytes
from medsynth.planning.link import Link, measure_link
from medsynth.planning.measure import Measurement, Steps, StepTimer, cycle
from medsynth.planning.memory import LiveBytes, lasting_bytes, trained_parameters
from medsynth.planning.plan_text import plan_text, size
from tests.command import TINY, run
from tests.test_conf import compose
from tests.test_gan import Images, fit, gan, transfer

MIB = 2**20


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_live_bytes_follow_tensors_until_they_are_gone():
    with LiveBytes() as live:
        first = torch.zeros(1000)
        second = first + 1
        view = second.view(10, 100)
        del first
        assert live.live == 4000  # a view is no memory of its own
        third = view * 2
    assert live.peak == 8000
    del second, view
    assert live.live == 4000
    del third
    assert live.live == 0


def test_live_bytes_include_what_the_graph_keeps_for_the_backward_pass():
    """sin keeps its input: of five in a row the four results between stay until the gradient is there."""
    weight = torch.zeros(1000, requires_grad=True)
    with LiveBytes() as live:
        value = weight
        for _ in range(5):
            value = value.sin()
        total = value.sum()
        del value
        kept = live.live
        total.backward()
    assert 4 * 4000 <= kept <= 5 * 4000 + 8
    assert live.live == 4000 + 4  # the gradient and the sum


def test_peak_of_a_training_grows_by_the_images():
    """A generator of one layer: 1,024 values of each image after tanh are kept by the discriminator's convolutions."""
    peaks = {}
    for batch in (8, 16, 32):
        torch.manual_seed(1)
        watch, model = StepTimer(1, 1), gan(max_images=batch * 4)
        fit(model, Waiting(batch), callbacks=[watch], limit_val_batches=0, val_check_interval=None)
        peaks[batch] = watch.peak
    each = (peaks[32] - peaks[16]) / 16
    assert each == pytest.approx((peaks[16] - peaks[8]) / 8, rel=0.25)
    assert each > 2 * 16 * 16 * 4


class Waiting(Images):
    """As the data module of a training, its loader counts the seconds waited for it."""

    def train_dataloader(self):
        loader = super().train_dataloader()
        loader.seconds_waited = 0.0
        return loader


def test_lasting_bytes_count_each_tensor_once():
    model = gan()
    optimizer = torch.optim.Adam(model.generator.parameters())
    model.generator(torch.zeros(2, 4)).sum().backward()
    optimizer.step()
    found = lasting_bytes(model, [optimizer])
    numbers = 4 + 4 * 256 + 256  # embedding, weight, bias
    assert found["generator"] == found["trained_generator"] == 4 * numbers
    assert found["ema"] == 4 * numbers + 8 + 8  # beside two counters
    moments = 2 * 4 * (4 * 256 + 256)  # the embedding has had no gradient
    assert moments <= found["optimizers"] <= moments + 3 * 8


def test_gradients_of_frozen_weights_are_not_exchanged():
    model = gan(discriminator=transfer())
    found = lasting_bytes(model, [])
    assert 0 < found["trained_discriminator"] < found["discriminator"]
    assert found["trained_discriminator"] == sum(p.nbytes for p in trained_parameters(model.discriminator))


# ---- time -----------------------------------------------------------------------------------------------------------


def test_the_time_of_a_step_averages_steps_with_and_without_a_penalty():
    model = gan(penalties={"r1": R1(gamma=0.1, interval=3)}, discriminator_steps=2)
    assert cycle(model) == 6
    watch = StepTimer(3, timed=5)
    assert (watch.warm_up, watch.timed, watch.count) == (3, 6, 12)
    watch.seconds = [9.0] * 3 + [1.0, 2.0, 6.0, 1.0, 2.0, 6.0] + [9.0] * 3
    watch._waited, watch.peak = [0.5 * step for step in range(12)], 77
    assert watch.steps(8, accumulate=3) == Steps(8, microbatch=3, seconds=3.0, spread=0.0, waiting=0.5, peak=77)


# ---- arithmetic -----------------------------------------------------------------------------------------------------

MEASUREMENT = Measurement(
    steps=(Steps(4, 4, 0.5, 0.0, 0.0, 300 * MIB), Steps(16, 16, 1.1, 0.0, 0.0, 900 * MIB)),
    lasting={"generator": MIB, "discriminator": MIB, "ema": MIB, "optimizers": 4 * MIB},
    gradients={"generator": [2 * MIB, 2 * MIB], "discriminator": [MIB]},  # 16 and 4 MiB
    statistics={"generator": 1024, "discriminator": 0},
    discriminator_steps=2,
    device="cpu (1 threads)",
    precision="32-true",
)
LINK = Link(bandwidth=12 * MIB, latency=0.001, measured=False)


def estimated(**options):
    chosen = {"devices": [1, 2, 4], "batch": 16, "accumulate": 1, "max_images": 36_000, "limit": None} | options
    return estimate(MEASUREMENT, LINK, **chosen)


def test_line_passes_through_both_points_and_never_below_zero():
    assert line_through((16, 1.1), (4, 0.5)).at(8) == pytest.approx(0.7)
    assert line_through((2, 1.0), (4, 3.0)) == Line(0.0, 0.75)
    assert line_through((2, 3.0), (4, 2.0)) == Line(2.0, 0.0)


def test_traffic_is_that_of_a_ring():
    """4 MiB at each step, and 16 MiB and the statistics at each second: 12 MiB and 512 bytes."""
    payload = 12 * MIB + 512
    assert sent_bytes(MEASUREMENT, 1) == 0
    assert sent_bytes(MEASUREMENT, 2) == payload
    assert sent_bytes(MEASUREMENT, 4) == 1.5 * payload
    # Gradients and numbers of the one, half of those of the other and its statistics: 2 + 3 / 2 exchanges.
    assert exchange_seconds(MEASUREMENT, LINK, 4) == pytest.approx(1.5 * payload / LINK.bandwidth + 3.5 * 2 * 0.001)


def test_rows_equal_sums_by_hand():
    one, two, four = estimated().rows
    assert (one.share, two.share, four.share) == (16, 8, 4)
    assert [row.computing for row in (one, two, four)] == pytest.approx([1.1, 0.7, 0.5])
    assert one.exchanging == 0
    seconds = 0.7 + (12 * MIB + 512) / (12 * MIB) + 0.0035
    assert two.images_per_second == pytest.approx(16 / seconds)
    assert two.speedup == pytest.approx(1.1 / seconds)
    assert two.hours == pytest.approx(36_000 / 16 * seconds / 3600)
    assert one.memory == pytest.approx(900 * MIB)
    assert two.memory == pytest.approx((500 + 16) * MIB)  # a copy of the larger gradient is sent
    assert not any(row.beyond for row in (one, two, four))
    assert estimated(devices=[8]).rows[0].beyond


def test_the_smallest_accumulate_that_fits_is_estimated():
    one, two, four = estimated(limit=400 * MIB).rows
    assert (one.fits, two.fits, four.fits) == (False, False, True)
    assert one.accumulate == 3  # microbatches of 6 images: 400 MiB
    assert two.accumulate == 2
    assert four.accumulate is None
    assert estimated(limit=10 * MIB).rows[0].accumulate is None
    assert fitting_accumulate(Line(0.0, 10.0), 25.0, needed=80.0, share=8, accumulate=1) == 4


def test_the_text_separates_measured_from_estimated():
    disk = {"checkpoints": 7 * MIB, "generator": MIB, "samples": 3000}
    text = plan_text(MEASUREMENT, LINK, estimated(devices=[1, 32], limit=400 * MIB), disk, 16)
    measured, told = text.split("Estimated")
    assert "Measured here, on cpu (1 threads) in 32-true" in measured
    assert "1100 ms" in measured
    assert "as given" in measured
    assert "task.accumulate=3" in told
    assert "without validation" in told
    assert "0*" in told
    assert "7 MiB for checkpoints" in told
    assert [size(count) for count in (0, 1023, 1536, 5 * MIB, 3000 * 2**30)] == [
        "0 B",
        "1.02e+03 B",
        "1.5 KiB",
        "5 MiB",
        "3,000 GiB",
    ]


def test_disk_counts_the_checkpoints_that_are_kept():
    lasting = {"generator": 10, "discriminator": 20, "ema": 10, "optimizers": 40}
    config = compose("max_images=1000", "val_every_images=100", "data.image_size=16")
    checkpoints = [c for c in config.callbacks.values() if "Checkpoint" in c["_target_"].rpartition(".")[2]]
    disk = disk_bytes(config, lasting)
    assert disk["checkpoints"] == 80 * sum(c.get("save_top_k", 1) for c in checkpoints)
    assert disk["samples"] == 64 * 16 * 16 * 11
    every = compose("max_images=1000", "val_every_images=100", "++callbacks.best_checkpoint.save_top_k=-1")
    assert disk_bytes(every, lasting)["checkpoints"] - disk["checkpoints"] == 80 * 9


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_plan_of_a_training(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = ["plan.devices=[2,1]", "plan.bandwidth_gbps=1", "plan.steps=2", "plan.out=plan.json", "plan.memory_gib=1"]
    code, out, err = run(monkeypatch, capsys, *TINY, *options, command="plan")
    assert code == 0, err
    assert "Measured here, on cpu" in out
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"], "a plan leaves nothing else behind"
    one, two = plan["estimated"]["devices"]
    assert (one["devices"], one["share"], two["devices"], two["share"]) == (1, 8, 2, 4)
    assert one["computing"] > 0
    assert one["fits"] is True
    assert one["exchanging"] == 0 < two["exchanging"]
    gradients = plan["measured"]["lasting_bytes"]["trained_generator"]
    gradients += plan["measured"]["lasting_bytes"]["trained_discriminator"]
    assert two["sent"] == pytest.approx(gradients, rel=0.01)  # beside batch statistics
    assert plan["given"]["link"]["bandwidth"] == pytest.approx(1e9 / 8)
    assert plan["estimated"]["bytes_per_image"] > 16 * 16 * 4


@pytest.mark.slow
def test_exchange_between_two_processes_is_measured():
    link = measure_link([1000, 2_000_000])
    assert link.measured
    assert 1e6 < link.bandwidth < 1e12
    assert 0 < link.latency < 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["plan.devices=[1,3]"], ["data.batch_size=8", "3 devices"]),
        (["plan.devices=[0]"], ["plan.devices=[0]", "[1,2,4,8]"]),
        (["plan.devices=[]"], ["plan.devices=[]"]),
        (["plan.devices=two"], ["plan.devices=two", "list"]),
        (["plan.devices=[2]", "plan.batch_sizes=[4,4]"], ["plan.batch_sizes=[4, 4]", "two different"]),
        (["plan.devices=[2]", "plan.batch_sizes=[4,128]"], ["128", "64 training images"]),
        (["plan.bandwidth_gbps=0"], ["plan.bandwidth_gbps=0", "above 0"]),
        (["plan.memory_gib=much"], ["plan.memory_gib=much", "a number"]),
        (["plan.steps=0"], ["plan.steps=0", "above 0"]),
        (["resume=somewhere"], ["resume="]),
        (["trainer.devices=2"], ["trainer.devices=2", "plan.devices="]),
        (["trainer.precision=16-true", "plan.devices=[1]"], ["16-true", "bf16-mixed"]),
    ],
    ids=lambda value: str(value[-1]),
)
def test_bad_options_are_refused(monkeypatch, capsys, tmp_path, options, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, *options, command="plan")
    assert code == 1
    assert err.startswith("medsynth plan: error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not list(tmp_path.iterdir())
