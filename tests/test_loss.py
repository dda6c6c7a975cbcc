"""Every loss against its formula, worked out in float64 with NumPy from probabilities and logits."""

import numpy as np
import pytest
import torch

from medsynth.loss.hinge import Hinge
from medsynth.loss.least_squares import LeastSquares
from medsynth.loss.minimax import Minimax
from medsynth.loss.non_saturating import NonSaturating
from medsynth.loss.wasserstein import Wasserstein

REAL = np.array([[2.0], [-0.5], [0.3]])
FAKE = np.array([[-1.5], [0.7], [1.2]])


def probability(logits):
    return 1 / (1 + np.exp(-logits))


EXPECTED = {
    NonSaturating: (
        -np.log(probability(REAL)).mean() - np.log(1 - probability(FAKE)).mean(),
        -np.log(probability(FAKE)).mean(),
    ),
    Minimax: (
        -np.log(probability(REAL)).mean() - np.log(1 - probability(FAKE)).mean(),
        np.log(1 - probability(FAKE)).mean(),
    ),
    Hinge: (
        np.mean([max(0, 1 - r) for r in REAL.flat]) + np.mean([max(0, 1 + f) for f in FAKE.flat]),
        -FAKE.mean(),
    ),
    LeastSquares: (0.5 * ((REAL - 1) ** 2).mean() + 0.5 * (FAKE**2).mean(), 0.5 * ((FAKE - 1) ** 2).mean()),
    Wasserstein: (FAKE.mean() - REAL.mean(), -FAKE.mean()),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_values(kind):
    loss, real, fake = kind(), torch.from_numpy(REAL), torch.from_numpy(FAKE)
    discriminator, generator = EXPECTED[kind]
    assert loss.discriminator(real=real, fake=fake).item() == pytest.approx(discriminator, rel=1e-12)
    assert loss.generator(real=None, fake=fake).item() == pytest.approx(generator, rel=1e-12)


@pytest.mark.parametrize("kind", EXPECTED)
def test_descending_separates_and_approaches(kind):
    """The discriminator's descent raises real and lowers fake logits; the generator's raises fake ones."""
    loss = kind()
    real, fake = torch.zeros(4, 1, requires_grad=True), torch.zeros(4, 1, requires_grad=True)
    loss.discriminator(real=real, fake=fake).backward()
    assert (real.grad < 0).all()
    assert (fake.grad >= 0).all()
    fake = torch.full((4, 1), 0.5, requires_grad=True)
    loss.generator(real=None, fake=fake).backward()
    assert (fake.grad < 0).all()


@pytest.mark.parametrize("kind", [NonSaturating, Minimax])
def test_large_logits_stay_finite(kind):
    huge = torch.tensor([[1e4], [-1e4]])
    assert torch.isfinite(kind().discriminator(real=huge, fake=huge))
    assert torch.isfinite(kind().generator(real=None, fake=huge))
