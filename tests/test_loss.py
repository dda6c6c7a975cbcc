"""Every loss against its formula, worked out in float64 with NumPy from probabilities and logits."""

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from medsynth.contracts import InputError
from medsynth.loss.dual_contrastive import DualContrastive
from medsynth.loss.hinge import Hinge
from medsynth.loss.least_squares import LeastSquares
from medsynth.loss.minimax import Minimax
from medsynth.loss.non_saturating import NonSaturating
from medsynth.loss.relativistic_average import RelativisticAverage
from medsynth.loss.relativistic_pairing import RelativisticPairing
from medsynth.loss.wasserstein import Wasserstein

REAL = np.array([[2.0, 0.4], [-0.5, -1.2], [0.3, 3.1]])  # 3 images, 2 judgments of each
FAKE = np.array([[-1.5, 0.6], [0.7, -2.2], [1.2, 0.1]])


def probability(logits):
    return 1 / (1 + np.exp(-logits))


def cross_entropy(real, fake):
    return -np.log(probability(real)).mean() - np.log(1 - probability(fake)).mean()


def average(high, low):
    """RaSGAN's loss judgment by judgment: each has its own means over the images."""
    pairs = zip(high.T, low.T, strict=True)
    return np.mean([cross_entropy(one - other.mean(), other - one.mean()) for one, other in pairs])


def contrasts(high, low):
    """Yu et al.'s softmax column by column: one high logit among the low ones, one low logit among the high ones."""
    losses = []
    for ups, downs in zip(high.T, low.T, strict=True):
        losses += [-np.log(np.exp(up) / (np.exp(up) + np.exp(downs).sum())) for up in ups]
        losses += [-np.log(np.exp(-down) / (np.exp(-down) + np.exp(-ups).sum())) for down in downs]
    return np.sum(losses) / high.size


FORMULAS = {  # (real, fake) -> the discriminator's loss, the generator's
    NonSaturating: (cross_entropy, lambda real, fake: -np.log(probability(fake)).mean()),
    Minimax: (cross_entropy, lambda real, fake: np.log(1 - probability(fake)).mean()),
    Hinge: (
        lambda real, fake: np.mean([max(0, 1 - r) for r in real.flat]) + np.mean([max(0, 1 + f) for f in fake.flat]),
        lambda real, fake: -fake.mean(),
    ),
    LeastSquares: (
        lambda real, fake: 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean(),
        lambda real, fake: 0.5 * ((fake - 1) ** 2).mean(),
    ),
    Wasserstein: (lambda real, fake: fake.mean() - real.mean(), lambda real, fake: -fake.mean()),
    RelativisticPairing: (
        lambda real, fake: np.mean([-np.log(probability(r - f)) for r, f in zip(real.flat, fake.flat, strict=True)]),
        lambda real, fake: np.mean([-np.log(probability(f - r)) for r, f in zip(real.flat, fake.flat, strict=True)]),
    ),
    RelativisticAverage: (lambda real, fake: average(real, fake), lambda real, fake: average(fake, real)),
    DualContrastive: (lambda real, fake: contrasts(real, fake), lambda real, fake: contrasts(fake, real)),
}
RELATIVISTIC = [RelativisticPairing, RelativisticAverage, DualContrastive]


def slope(formula, at, *, step=1e-5):
    """The formula's gradient by central differences."""
    gradient = np.zeros_like(at)
    for position in np.ndindex(at.shape):
        shift = np.zeros_like(at)
        shift[position] = step
        gradient[position] = (formula(at + shift) - formula(at - shift)) / (2 * step)
    return gradient


@pytest.mark.parametrize("kind", FORMULAS)
def test_values_and_gradients(kind):
    loss, (discriminator, generator) = kind(), FORMULAS[kind]
    real, fake = (torch.from_numpy(logits).clone().requires_grad_(True) for logits in (REAL, FAKE))

    value = loss.discriminator(real=real, fake=fake)
    assert value.item() == pytest.approx(discriminator(REAL, FAKE), rel=1e-12)
    value.backward()
    np.testing.assert_allclose(real.grad, slope(lambda logits: discriminator(logits, FAKE), REAL), atol=1e-9)
    np.testing.assert_allclose(fake.grad, slope(lambda logits: discriminator(REAL, logits), FAKE), atol=1e-9)

    fake.grad = None
    value = loss.generator(real=real.detach() if loss.relativistic else None, fake=fake)
    assert value.item() == pytest.approx(generator(REAL, FAKE), rel=1e-12)
    value.backward()
    np.testing.assert_allclose(fake.grad, slope(lambda logits: generator(REAL, logits), FAKE), atol=1e-9)


@pytest.mark.parametrize("kind", FORMULAS)
def test_descending_separates_and_approaches(kind):
    """The discriminator's descent raises real and lowers fake logits; the generator's raises fake ones."""
    loss = kind()
    real, fake = torch.zeros(4, 1, requires_grad=True), torch.zeros(4, 1, requires_grad=True)
    loss.discriminator(real=real, fake=fake).backward()
    assert (real.grad < 0).all()
    assert (fake.grad >= 0).all()
    fake = torch.full((4, 1), 0.5, requires_grad=True)
    loss.generator(real=torch.zeros(4, 1) if loss.relativistic else None, fake=fake).backward()
    assert (fake.grad < 0).all()


@pytest.mark.parametrize("kind", FORMULAS)
def test_relativistic_losses_need_the_real_logits(kind):
    assert kind.relativistic == (kind in RELATIVISTIC)


@pytest.mark.parametrize("kind", FORMULAS)
def test_at_the_boundary_neither_side_prevails(kind):
    """An image that is real as often as generated has its logit there: the discriminator's gradients cancel."""
    boundary = kind().boundary
    if boundary is None:
        assert kind in (*RELATIVISTIC, Wasserstein)
        return
    logit = torch.full((1, 1), boundary, requires_grad=True)
    kind().discriminator(real=logit, fake=logit).backward()
    assert logit.grad.item() == pytest.approx(0)


@pytest.mark.parametrize("kind", RELATIVISTIC)
def test_only_differences_of_logits_count(kind):
    """A constant of its own on each judgment changes neither player's loss; exchanging the players exchanges both."""
    loss, real, fake = kind(), torch.from_numpy(REAL), torch.from_numpy(FAKE)
    constants = torch.tensor([[7.0, -3.0]], dtype=torch.float64)
    for player in (loss.discriminator, loss.generator):
        torch.testing.assert_close(player(real=real + constants, fake=fake + constants), player(real=real, fake=fake))
    torch.testing.assert_close(loss.generator(real=real, fake=fake), loss.discriminator(real=fake, fake=real))


def test_pairing_compares_image_by_image_and_average_does_not():
    real, fake = torch.from_numpy(REAL), torch.from_numpy(FAKE)
    for kind, depends in ((RelativisticPairing, True), (RelativisticAverage, False), (DualContrastive, False)):
        ordered, turned = (kind().discriminator(real=real, fake=other) for other in (fake, fake.roll(1, dims=0)))
        assert (abs(ordered - turned) > 0.01) == depends


@pytest.mark.parametrize("kind", [NonSaturating, Minimax, *RELATIVISTIC])
def test_large_logits_stay_finite(kind):
    huge = torch.tensor([[1e4], [-1e4]])
    assert torch.isfinite(kind().discriminator(real=huge, fake=huge.flip(0)))
    assert torch.isfinite(kind().generator(real=huge, fake=huge.flip(0)))


# ---- labels ----------------------------------------------------------------------------------------------------------

LABELED = [NonSaturating, Minimax, LeastSquares]


def with_labels(kind, real_labels, fake_labels):
    """The discriminator's loss with a label for each image, of the logits REAL and FAKE."""

    def side(logits, labels):
        labels = np.array(labels)[:, None]
        if kind is LeastSquares:
            return 0.5 * ((logits - labels) ** 2).mean()
        return -(labels * np.log(probability(logits)) + (1 - labels) * np.log(1 - probability(logits))).mean()

    return side(REAL, real_labels) + side(FAKE, fake_labels)


@pytest.mark.parametrize("kind", LABELED)
def test_smoothing_is_of_real_images_and_of_the_discriminator_alone(kind):
    real, fake = torch.from_numpy(REAL), torch.from_numpy(FAKE)
    smooth, plain = kind(label_smoothing=0.1), kind()
    expected = with_labels(kind, [0.9] * 3, [0.0] * 3)
    assert smooth.discriminator(real=real, fake=fake).item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(smooth.generator(real=None, fake=fake), plain.generator(real=None, fake=fake))


@pytest.mark.parametrize("kind", LABELED)
def test_the_smoothed_boundary_is_where_the_gradients_cancel(kind):
    loss = kind(label_smoothing=0.3)
    logit = torch.full((1, 1), loss.boundary, dtype=torch.float64, requires_grad=True)
    loss.discriminator(real=logit, fake=logit).backward()
    assert loss.boundary < kind().boundary
    assert logit.grad.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", LABELED)
def test_flipping_gives_whole_images_the_other_label(kind, monkeypatch):
    draws = iter([[0.05, 0.5, 0.2], [0.1, 0.09, 0.99]])
    monkeypatch.setattr(torch, "rand", lambda *size, device: torch.tensor(next(draws)).view(size))
    loss = kind(label_smoothing=0.2, label_flipping=0.1)
    value = loss.discriminator(real=torch.from_numpy(REAL), fake=torch.from_numpy(FAKE))
    assert value.item() == pytest.approx(with_labels(kind, [0.0, 0.8, 0.8], [0.0, 0.8, 0.0]), rel=1e-12)


def test_flips_are_as_frequent_as_asked_and_follow_from_the_seed():
    labels = NonSaturating(label_flipping=0.2).labels
    logits = torch.zeros(10_000, 4)
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append((labels.of(logits, real=True), labels.of(logits, real=False)))
    assert drawn[0][0].mean().item() == pytest.approx(0.8, abs=0.02)
    assert drawn[0][1].mean().item() == pytest.approx(0.2, abs=0.02)
    assert all(torch.equal(*pair) for pair in zip(*drawn, strict=True))


@pytest.mark.parametrize("kind", LABELED)
def test_without_noise_no_random_number_is_drawn_and_no_bit_changes(kind):
    torch.manual_seed(0)
    real, fake = (torch.randn(64, 3, requires_grad=True) for _ in range(2))
    state = torch.get_rng_state()
    value = kind().discriminator(real=real, fake=fake)
    assert torch.equal(torch.get_rng_state(), state)
    if kind is LeastSquares:
        expected = (0.5 * (real - 1).square()).mean() + (0.5 * fake.square()).mean()
    else:
        expected = softplus(-real).mean() + softplus(fake).mean()
    assert torch.equal(value, expected)
    for ours, theirs in zip(*(torch.autograd.grad(it, (real, fake)) for it in (value, expected)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", LABELED)
@pytest.mark.parametrize("option", [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"label_flipping": 0.5}])
def test_labels_out_of_range(kind, option):
    ((name, value),) = option.items()
    with pytest.raises(InputError, match=rf"loss\.{name}={value}"):
        kind(**option)
