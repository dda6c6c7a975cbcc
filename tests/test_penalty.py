"""Penalties against gradients known in closed form, and worked out with NumPy."""

import hydra
import numpy as np
import pytest
import torch

from medsynth.augment.ada import AdaptiveAugmentation
from medsynth.contracts import Adaptive, ImagePenalty, InputError, LogitPenalty, Penalty
from medsynth.penalty.consistency import Consistency
from medsynth.penalty.dragan import DRAGAN
from medsynth.penalty.drift import Drift
from medsynth.penalty.gradient import squared_gradient_norms
from medsynth.penalty.lecam import LeCam
from medsynth.penalty.r1 import R1
from medsynth.penalty.r2 import R2
from medsynth.penalty.wasserstein_gp import WassersteinGradientPenalty
from tests.test_conf import compose

CASES = [(R1, "real"), (R2, "fake"), (WassersteinGradientPenalty, "between"), (DRAGAN, "perturbed")]
NORMS = [WassersteinGradientPenalty, DRAGAN]  # hold the norm at 1


@pytest.mark.parametrize(("kind", "at"), CASES)
def test_contract_and_interval(kind, at):
    penalty = kind(interval=3)
    assert isinstance(penalty, Penalty)
    assert (penalty.at, penalty.interval) == (at, 3)


@pytest.mark.parametrize("kind", NORMS)
def test_gradient_penalty_of_a_linear_head(kind):
    """D(x) = <w, x> has the gradient w everywhere: penalty = weight * (|w| - 1)^2, and its derivative is known too."""
    w = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    penalty = kind(weight=10.0)(inputs=(inputs,), logits=(inputs @ w)[:, None])
    assert penalty.item() == pytest.approx(10 * (5 - 1) ** 2)
    (slope,) = torch.autograd.grad(penalty, w)
    expected = 10 * 2 * (5 - 1) * w.detach() / 5  # d|w|/dw = w / |w|
    torch.testing.assert_close(slope, expected)


@pytest.mark.parametrize("kind", NORMS)
def test_gradient_penalty_is_per_sample(kind):
    """D(x) = |x|^2 / 2 has the gradient x: the penalty is the mean of (|x_i| - 1)^2, not of the batch's norm."""
    inputs = torch.tensor([[2.0, 0.0], [0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    logits = (inputs.square().sum(1, keepdim=True)) / 2
    penalty = kind(weight=1.0)(inputs=(inputs,), logits=logits)
    assert penalty.item() == pytest.approx(((2 - 1) ** 2 + (3 - 1) ** 2) / 2)


@pytest.mark.parametrize("kind", NORMS)
def test_gradient_penalty_at_a_zero_gradient(kind):
    """A head that is flat at one image: the square root's derivative is infinite there, the penalty's is not."""
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    inputs = torch.tensor([[0.0, 0.0], [1.0, 1.0]], requires_grad=True)
    logits = (inputs.square() * w).sum(1, keepdim=True) / 2  # gradient (3 x_1, 4 x_2): 0, and of norm 5
    penalty = kind(weight=1.0)(inputs=(inputs,), logits=logits)
    assert penalty.item() == pytest.approx(((0 - 1) ** 2 + (5 - 1) ** 2) / 2, rel=1e-5)
    (slope,) = torch.autograd.grad(penalty, w)
    torch.testing.assert_close(slope, (5 - 1) * torch.tensor([3.0, 4.0]) / 5)  # of the second image alone


@pytest.mark.parametrize("kind", [R1, R2])
def test_r1_and_r2_of_a_quadratic_head(kind):
    """D(x) = x'Sx / 2 has the gradient Sx: gamma / 2 * mean |Sx|^2, and gamma / 2 * mean (Sxx' + xx'S) for S."""
    random = np.random.default_rng(0)
    matrix, x = random.normal(size=(4, 4)), random.normal(size=(3, 4))
    matrix = matrix + matrix.T
    value = np.mean([0.7 / 2 * np.sum((matrix @ row) ** 2) for row in x])
    outer = np.mean([np.outer(row, row) for row in x], axis=0)

    weights, inputs = (torch.from_numpy(array).requires_grad_(True) for array in (matrix, x))
    logits = torch.einsum("ni,ij,nj->n", inputs, weights, inputs)[:, None] / 2
    penalty = kind(gamma=0.7)(inputs=(inputs,), logits=logits)
    assert penalty.item() == pytest.approx(value, rel=1e-12)
    (slope,) = torch.autograd.grad(penalty, weights)
    np.testing.assert_allclose(slope, 0.7 / 2 * (matrix @ outer + outer @ matrix), rtol=1e-12)


def two_levels():
    """Maps and a vector for 2 images, and 3 judgments: a_k |u|^2 / 2 + b_k (sum v)^2 / 2, with a and b as weights."""
    random = np.random.default_rng(1)
    arrays = [random.normal(size=size) for size in [(2, 3, 4, 4), (2, 5), (3,), (3,)]]
    u, v, a, b = (torch.from_numpy(array).requires_grad_(True) for array in arrays)
    logits = u.square().sum((1, 2, 3))[:, None] * a / 2 + v.sum(1).square()[:, None] * b / 2
    return arrays, (u, v), (a, b), logits


def test_norm_is_over_all_tensors_and_of_the_mean_logit():
    (u, v, a, b), inputs, weights, logits = two_levels()
    squares = [np.sum((a.mean() * u[i]) ** 2) + 5 * (b.mean() * v[i].sum()) ** 2 for i in range(2)]
    np.testing.assert_allclose(squared_gradient_norms(inputs, logits).detach(), squares, rtol=1e-12)

    slopes = torch.autograd.grad(R1(gamma=2.0)(inputs=inputs, logits=logits), weights)
    expected_a = np.mean([2 * a.mean() * np.sum(u[i] ** 2) for i in range(2)]) / 3  # through the mean of 3
    expected_b = np.mean([5 * 2 * b.mean() * v[i].sum() ** 2 for i in range(2)]) / 3
    np.testing.assert_allclose(slopes[0], np.full(3, expected_a), rtol=1e-12)
    np.testing.assert_allclose(slopes[1], np.full(3, expected_b), rtol=1e-12)

    gradient_penalty = WassersteinGradientPenalty(weight=3.0)(inputs=inputs, logits=logits)
    assert gradient_penalty.item() == pytest.approx(3 * np.mean((np.sqrt(squares) - 1) ** 2))


def test_many_equal_logits_are_penalized_like_one():
    _, inputs, _, logits = two_levels()
    one = squared_gradient_norms(inputs, logits[:, :1])
    torch.testing.assert_close(squared_gradient_norms(inputs, logits[:, :1].expand(-1, 7)), one)


@pytest.mark.parametrize("kind", [R1, R2, *NORMS])
def test_inputs_without_influence_add_nothing(kind):
    _, (u, v), (_, b), _ = two_levels()
    logits = v.sum(1, keepdim=True).square() * b / 2
    with_both, with_one = (kind()(inputs=inputs, logits=logits) for inputs in ((u, v), (v,)))
    assert with_both.item() == with_one.item()
    for slopes in zip(*(torch.autograd.grad(value, b) for value in (with_both, with_one)), strict=True):
        torch.testing.assert_close(*slopes)
    assert torch.isfinite(kind()(inputs=(u,), logits=logits))


def test_r1_and_r2_are_chosen_together():
    """As R3GAN has them: both at every update, of one gamma."""
    config = compose("penalty=[r1,r2]", "penalty.r1.interval=1", "penalty.r2.interval=1", "penalty.r2.gamma=0.1")
    penalties = hydra.utils.instantiate(config.penalty)
    found = [(name, type(part), part.gamma, part.interval) for name, part in penalties.items()]
    assert found == [("r1", R1, 0.1, 1), ("r2", R2, 0.1, 1)]


# ---- LeCam -----------------------------------------------------------------------------------------------------------


def observed(penalty, *means):
    for real, fake in means:
        penalty.observe(real_logits=real, fake_logits=fake, real_signs=0.0)
    return penalty


def test_lecam_of_known_logits():
    """Real logits above the average fake one, and fake logits below the average real one, by their squared distance."""
    penalty = observed(LeCam(weight=0.5, start=1), (2.0, -1.0))
    assert isinstance(penalty, LogitPenalty)
    assert isinstance(penalty, Adaptive)
    real, fake = torch.tensor([[1.0], [-3.0]], requires_grad=True), torch.tensor([[0.0], [4.0]], requires_grad=True)
    term = penalty(real=real, fake=fake)
    assert term.item() == pytest.approx(0.5 * ((1 + 1) ** 2 / 2 + (2 - 0) ** 2 / 2))
    slopes = torch.autograd.grad(term, (real, fake))
    torch.testing.assert_close(slopes[0], 0.5 * torch.tensor([[2.0], [0.0]]))
    torch.testing.assert_close(slopes[1], 0.5 * torch.tensor([[-2.0], [0.0]]))


def test_lecam_averages_begin_at_its_start():
    penalty, plain = LeCam(decay=0.9, start=2), torch.ones(1, 1)
    assert penalty(real=plain, fake=plain).item() == 0
    observed(penalty, (5.0, 3.0))
    assert penalty(real=plain, fake=-plain).item() == 0
    observed(penalty, (4.0, -2.0))  # the start: from here on it counts, and is averaged
    assert penalty(real=plain, fake=-plain).item() == pytest.approx(0.3 * (9 + 25))
    values = penalty.observe(real_logits=2.0, fake_logits=0.0, real_signs=1.0)
    assert values == {"real_average": pytest.approx(3.8), "fake_average": pytest.approx(-1.8)}


def test_lecam_continues_from_its_state():
    means = np.random.default_rng(3).normal(size=(9, 2))
    whole = observed(LeCam(start=3), *means)
    first, second = observed(LeCam(start=3), *means[:5]), LeCam(start=3)
    second.load_state_dict(first.state_dict())
    assert observed(second, *means[5:]).state_dict() == whole.state_dict()


@pytest.mark.parametrize(("option", "value"), [("decay", 1.0), ("decay", -0.1), ("start", 0)])
def test_lecam_options_out_of_range(option, value):
    with pytest.raises(InputError, match=rf"penalty\.lecam\.{option}={value}"):
        LeCam(**{option: value})


# ---- consistency -----------------------------------------------------------------------------------------------------


def test_consistency_is_the_weighted_square_of_what_an_augmentation_changes():
    random = np.random.default_rng(6)
    real, fake, w = (random.normal(size=shape) for shape in ((4, 1, 3, 3), (5, 1, 3, 3), (9, 2)))
    weights = torch.from_numpy(w).requires_grad_(True)

    def logits(images):
        return images.flatten(1) @ weights

    penalty = Consistency(
        augmentations={"shift": lambda images: images + 1, "double": lambda images: 2 * images},
        real_weight=0.3,
        fake_weight=0.7,
    )
    assert isinstance(penalty, ImagePenalty)
    images = {"real": torch.from_numpy(real), "fake": torch.from_numpy(fake)}
    term = penalty(**images, **{f"{name}_logits": logits(value) for name, value in images.items()}, logits=logits)
    changes = [(side - 2 * (side + 1)).reshape(len(side), 9) for side in (real, fake)]
    expected = sum(weight * np.mean((change @ w) ** 2) for weight, change in zip((0.3, 0.7), changes, strict=True))
    assert term.item() == pytest.approx(expected, rel=1e-12)
    (slope,) = torch.autograd.grad(term, weights)
    by_hand = sum(
        weight * 2 * change.T @ (change @ w) / (len(change) * 2)
        for weight, change in zip((0.3, 0.7), changes, strict=True)
    )
    np.testing.assert_allclose(slope.numpy(), by_hand, rtol=1e-10)


@pytest.mark.parametrize(
    ("augmentations", "name"), [({}, "none"), ({"ada": AdaptiveAugmentation(batch_size=8)}, "ada")]
)
def test_consistency_refuses_augmentations_that_never_change_an_image(augmentations, name):
    with pytest.raises(InputError, match=rf"augment@penalty\.consistency\.augmentations={name} never changes"):
        Consistency(augmentations=augmentations)


def test_the_augmentation_of_consistency_is_chosen_by_an_option():
    penalties = hydra.utils.instantiate(compose("penalty=[r1,consistency]").penalty)
    (augmentation,) = penalties["consistency"].augmentations.values()
    assert augmentation.policy == {"translation"}
    option = "augment@penalty.consistency.augmentations=instance_noise"
    penalties = hydra.utils.instantiate(compose("penalty=consistency", option).penalty)
    assert list(penalties["consistency"].augmentations) == ["instance_noise"]


# ---- drift and DRAGAN ------------------------------------------------------------------------------------------------


def test_drift_is_the_weighted_mean_square_of_real_logits():
    random = np.random.default_rng(4)
    real, fake = (torch.from_numpy(random.normal(size=(5, 3))).requires_grad_(True) for _ in range(2))
    penalty = Drift(weight=0.3, interval=2)
    assert isinstance(penalty, LogitPenalty)
    term = penalty(real=real, fake=fake)
    assert term.item() == pytest.approx(0.3 * np.mean(real.detach().numpy() ** 2), rel=1e-12)
    slopes = torch.autograd.grad(term, (real, fake), materialize_grads=True)
    np.testing.assert_allclose(slopes[0], 0.3 * 2 * real.detach().numpy() / 15, rtol=1e-12)
    assert not slopes[1].any()


@pytest.mark.parametrize("perturbation", [0.0, -0.5])
def test_dragan_needs_a_perturbation(perturbation):
    with pytest.raises(InputError, match=rf"penalty\.dragan\.perturbation={perturbation}"):
        DRAGAN(perturbation=perturbation)
