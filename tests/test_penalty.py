"""Penalties against gradients known in closed form."""

import pytest
import torch

from medsynth.penalty.r1 import R1
from medsynth.penalty.wasserstein_gp import WassersteinGradientPenalty


def test_gradient_penalty_of_a_linear_head():
    """D(x) = <w, x> has the gradient w everywhere: penalty = weight * (|w| - 1)^2, and its derivative is known too."""
    w = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    penalty = WassersteinGradientPenalty(weight=10.0)(inputs=inputs, logits=(inputs @ w)[:, None])
    assert penalty.item() == pytest.approx(10 * (5 - 1) ** 2)
    (slope,) = torch.autograd.grad(penalty, w)
    expected = 10 * 2 * (5 - 1) * w.detach() / 5  # d|w|/dw = w / |w|
    torch.testing.assert_close(slope, expected)


def test_gradient_penalty_is_per_sample():
    """D(x) = |x|^2 / 2 has the gradient x: the penalty is the mean of (|x_i| - 1)^2, not of the batch's norm."""
    inputs = torch.tensor([[2.0, 0.0], [0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    logits = (inputs.square().sum(1, keepdim=True)) / 2
    penalty = WassersteinGradientPenalty(weight=1.0)(inputs=inputs, logits=logits)
    assert penalty.item() == pytest.approx(((2 - 1) ** 2 + (3 - 1) ** 2) / 2)


def test_r1_of_a_quadratic_head():
    """D(x) = a |x|^2 / 2 has the gradient a x: penalty = gamma / 2 * a^2 * mean |x_i|^2; d/da = gamma * a * mean."""
    a = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    inputs = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    penalty = R1(gamma=0.5)(inputs=inputs, logits=a * inputs.square().sum(1, keepdim=True) / 2)
    mean_square = (5 + 1) / 2
    assert penalty.item() == pytest.approx(0.25 * 9 * mean_square)
    (slope,) = torch.autograd.grad(penalty, a)
    assert slope.item() == pytest.approx(0.5 * 3 * mean_square)
