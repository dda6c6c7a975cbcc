"""The EMA of the generator: half-life, ramp-up, batch statistics."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from medsynth.generator.ema import EMA


def filled(value):
    network = nn.Linear(3, 2)
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)
    return network


@pytest.mark.parametrize("batch_size", [10, 100, 500])
def test_half_life_in_images_at_any_batch_size(batch_size):
    """Weights that jump from 0 to 1 and stay: after half_life images the average is at 1/2."""
    average = EMA(filled(0.0), half_life=1000, rampup=1e9)
    average.update(filled(0.0), images_seen=1)
    average.images_averaged.zero_()
    for images in range(batch_size, 1001, batch_size):
        average.update(filled(1.0), images_seen=images)
    torch.testing.assert_close(average.module.weight, torch.full((2, 3), 0.5))


def test_ramp_up_forgets_the_first_noise():
    """At 20 images the half-life is 1 instead of 10,000: ten images later the past weighs 2**-10 at most."""
    average = EMA(filled(0.0), half_life=10_000, rampup=0.05)
    average.update(filled(0.0), images_seen=1)
    average.images_averaged.fill_(10)
    average.update(filled(1.0), images_seen=20)
    assert 1 - average.module.weight.max().item() == pytest.approx(2**-10, rel=1e-3)


def test_batch_statistics_are_averaged_and_counted():
    network = nn.Sequential(nn.BatchNorm1d(2))
    average = EMA(network, half_life=10, rampup=1e9)
    average.update(network, images_seen=10)
    network(torch.full((4, 2), 10.0))  # running mean 0 -> 1
    average.update(network, images_seen=20)
    torch.testing.assert_close(average.module[0].running_mean, torch.full((2,), 0.5))
    assert average.module[0].num_batches_tracked == 1


def test_always_in_evaluation_mode_and_never_trained():
    average = EMA(nn.Sequential(nn.BatchNorm1d(2)), half_life=10, rampup=1.0).train()
    assert not any(module.training for module in average.modules())
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_spectral_normalization_is_that_of_the_averaged_weights():
    """Weights whose largest singular vectors turn by 90 degrees; the mean of these has a length of 0.7."""
    first, second = (spectral_norm(nn.Linear(2, 2, bias=False), n_power_iterations=20) for _ in range(2))
    with torch.no_grad():
        first.parametrizations.weight.original.copy_(torch.diag(torch.tensor([4.0, 1.0])))
        second.parametrizations.weight.original.copy_(torch.diag(torch.tensor([1.0, 6.0])))
        for network in (first, second):
            network.weight  # noqa: B018 - takes steps of the power iteration
    average = EMA(first, half_life=10, rampup=1e9)
    average.update(first, images_seen=1)
    average.images_averaged.zero_()
    average.update(second, images_seen=10)
    torch.testing.assert_close(average.module.weight, torch.diag(torch.tensor([2.5, 3.5])) / 3.5, rtol=1e-2, atol=1e-3)


def test_state_dict_holds_all_that_a_resumed_run_needs():
    first = EMA(filled(0.0), half_life=100, rampup=1.0)
    first.update(filled(0.0), images_seen=50)
    second = EMA(filled(7.0), half_life=100, rampup=1.0)
    second.load_state_dict(first.state_dict())
    for average in (first, second):
        average.update(filled(1.0), images_seen=80)
    assert torch.equal(first.module.weight, second.module.weight)
