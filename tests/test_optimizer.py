"""Optimizers against their algorithms in NumPy, on a game that plain steps circle around, and across a checkpoint."""

import functools
import signal

import hydra
import numpy as np
import pytest
import torch

from medsynth.contracts import InputError
from medsynth.optimizer.extragradient import Extragradient
from medsynth.optimizer.historical_averaging import historical_averaging
from medsynth.optimizer.optimistic_adam import OptimisticAdam
from medsynth.schedule.linear import Linear
from tests.command import TINY, run
from tests.test_conf import compose
from tests.test_gan import fit, gan
from tests.test_resume import assert_same, stop_at


def algorithm(start, gradients, *, lr, beta1, beta2, eps):
    """Algorithm 1 of the paper, line by line."""
    weights, first, second, last = start.copy(), np.zeros_like(start), np.zeros_like(start), np.zeros_like(start)
    for step, gradient in enumerate(gradients, 1):
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        direction = first / (1 - beta1**step) / (np.sqrt(second / (1 - beta2**step)) + eps)
        weights = weights - 2 * lr * direction + lr * last
        last = direction
    return weights


@pytest.mark.parametrize("betas", [(0.5, 0.9), (0.0, 0.99)])
def test_updates_are_those_of_algorithm_1(betas):
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=(3, 2)), random.normal(size=(7, 3, 2))
    weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
    untouched = torch.nn.Parameter(torch.ones(2))
    optimizer = OptimisticAdam([weight, untouched], lr=0.1, betas=betas, eps=1e-3)
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
    expected = algorithm(start, gradients, lr=0.1, beta1=betas[0], beta2=betas[1], eps=1e-3)
    np.testing.assert_allclose(weight.detach(), expected, rtol=1e-12)
    assert torch.equal(untouched, torch.ones(2))


def extra_adam(start, gradient_at, *, past, lr, beta1, beta2, eps, updates):
    """Algorithm 4 of Gidel et al. 2019 line by line, both of its options: the points at which gradients are taken."""
    iterate, average, square, count, points = start.copy(), np.zeros_like(start), np.zeros_like(start), 0, []
    gradient = None
    for _ in range(updates):
        if not past:
            points.append(iterate.copy())
            gradient = gradient_at(points[-1], len(points) - 1)
        ahead = iterate.copy()
        if gradient is not None:
            average, square, count = beta1 * average + (1 - beta1) * gradient, square, count + 1
            square = beta2 * square + (1 - beta2) * gradient**2
            ahead -= lr * average / (1 - beta1**count) / (np.sqrt(square / (1 - beta2**count)) + eps)
        points.append(ahead.copy())
        gradient = gradient_at(ahead, len(points) - 1)
        average, count = beta1 * average + (1 - beta1) * gradient, count + 1
        square = beta2 * square + (1 - beta2) * gradient**2
        iterate = iterate - lr * average / (1 - beta1**count) / (np.sqrt(square / (1 - beta2**count)) + eps)
    return points


@pytest.mark.parametrize("betas", [(0.5, 0.9), (0.0, 0.99)])
@pytest.mark.parametrize("extrapolation", ["past", "standard"])
def test_extragradient_takes_gradients_where_algorithm_4_does(extrapolation, betas):
    random = np.random.default_rng(0)
    start, matrix, noise = random.normal(size=3), random.normal(size=(3, 3)), random.normal(size=(12, 3))

    def gradient_at(point, number):
        return matrix @ point + noise[number]

    options = {"lr": 0.1, "eps": 1e-3}
    weight, untouched = torch.nn.Parameter(torch.from_numpy(start.copy())), torch.nn.Parameter(torch.ones(2))
    optimizer = Extragradient([weight, untouched], extrapolation=extrapolation, betas=betas, **options)
    past = extrapolation == "past"
    beta1, beta2 = betas
    expected = extra_adam(start, gradient_at, past=past, beta1=beta1, beta2=beta2, updates=12 if past else 6, **options)
    for number, point in enumerate(expected):
        np.testing.assert_allclose(weight.detach(), point, rtol=1e-12, err_msg=str(number))
        weight.grad = torch.from_numpy(gradient_at(weight.detach().numpy(), number))
        optimizer.step()
    assert torch.equal(untouched, torch.ones(2))


def distance_after(optimizer, steps=1000):
    """Return how far x and y are from the equilibrium (0, 0) of min_x max_y x y after steps from (1, 1)."""
    x, y = (torch.nn.Parameter(torch.ones((), dtype=torch.float64)) for _ in range(2))
    optimizers = [optimizer([x]), optimizer([y])]
    for _ in range(steps):
        x.grad, y.grad = y.detach().clone(), -x.detach().clone()
        for one in optimizers:
            one.step()
    return (x.square() + y.square()).sqrt().item()


def test_they_approach_the_equilibrium_that_adam_circles_around():
    options = {"lr": 0.1, "betas": (0.0, 0.999)}
    assert distance_after(lambda p: OptimisticAdam(p, **options)) < 0.01
    assert distance_after(lambda p: Extragradient(p, **options)) < 0.01
    assert distance_after(lambda p: Extragradient(p, extrapolation="standard", **options)) < 0.01
    assert distance_after(lambda p: torch.optim.Adam(p, **options)) > 1


def test_historical_averaging_adds_the_gradient_of_its_term():
    """Plain steps on the sum of a loss and of the paper's term, in NumPy; a group has a learning rate of its own."""
    random = np.random.default_rng(0)
    start, gradients, weight = random.normal(size=4), random.normal(size=(6, 4)), 0.3
    parameter, slow, untouched = (torch.nn.Parameter(torch.from_numpy(start.copy())) for _ in range(3))
    groups = [{"params": [parameter, untouched]}, {"params": [slow], "lr": 0.01}]
    optimizer = historical_averaging(groups, optimizer=torch.optim.SGD, weight=weight, lr=0.1)
    past = {0.1: [], 0.01: []}
    values = {rate: start.copy() for rate in past}
    for gradient in gradients:
        for rate, value in values.items():
            pull = 2 * weight * (value - np.mean(past[rate], axis=0)) if past[rate] else 0
            past[rate].append(value.copy())
            values[rate] = value - rate * (gradient + pull)
        parameter.grad, slow.grad = torch.from_numpy(gradient.copy()), torch.from_numpy(gradient.copy())
        optimizer.step()
        np.testing.assert_allclose(parameter.detach(), values[0.1], rtol=1e-12)
        np.testing.assert_allclose(slow.detach(), values[0.01], rtol=1e-12)
    assert torch.equal(untouched, torch.from_numpy(start))


@pytest.mark.parametrize("kind", [torch.optim.Adam, OptimisticAdam, Extragradient])
def test_historical_averaging_serves_any_optimizer(kind):
    """Against the same optimizer on gradients that automatic differentiation finds of the paper's term."""
    gradients = torch.randn(5, 3, dtype=torch.float64)
    weight, plain = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    averaging = historical_averaging([weight], optimizer=kind, weight=0.5, lr=0.1)
    optimizer, past = kind([plain], lr=0.1), []
    for gradient in gradients:
        loss = (gradient * plain).sum()
        if past:
            loss = loss + 0.5 * (plain - torch.stack(past).mean(dim=0)).square().sum()
        past.append(plain.detach().clone())
        plain.grad, weight.grad = torch.autograd.grad(loss, plain)[0], gradient.clone()
        optimizer.step()
        averaging.step()
        torch.testing.assert_close(weight, plain, rtol=1e-12, atol=1e-12)


def test_historical_averaging_approaches_the_equilibrium_that_plain_steps_leave():
    for weight, low, high in ((0.0, 5, 10), (0.1, 0, 0.1)):
        distance = distance_after(
            lambda p, weight=weight: historical_averaging(p, optimizer=torch.optim.SGD, weight=weight, lr=0.1), 300
        )
        assert low < distance < high


def test_historical_averaging_in_the_step():
    """Lightning's optimizers call the hooks, once for each update."""
    model = gan()
    for network in ("generator", "discriminator"):
        model.optimizer_factories[network] = functools.partial(
            historical_averaging, optimizer=torch.optim.SGD, weight=0.1, lr=0.1
        )
    fit(model)
    for network in ("generator", "discriminator"):
        optimizer = model._lightning_optimizer(network).optimizer
        states = [optimizer.state[parameter] for group in optimizer.param_groups for parameter in group["params"]]
        assert {state["historical_count"] for state in states if state} == {4}


def test_a_closure_is_computed_with_gradients():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = OptimisticAdam([weight], lr=0.5)

    def closure():
        loss = weight.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    torch.testing.assert_close(weight, torch.zeros(2))  # two steps of 0.5 along the gradient's sign


@pytest.mark.parametrize("kind", [OptimisticAdam, Extragradient])
@pytest.mark.parametrize("options", [{"lr": -1}, {"eps": -1}, {"betas": (1.0, 0.9)}, {"betas": (0.5, -0.1)}])
def test_options_out_of_range(kind, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}="):
        kind([torch.nn.Parameter(torch.ones(1))], **options)
    with pytest.raises(ValueError, match="extrapolation=future must be past or standard"):
        Extragradient([torch.nn.Parameter(torch.ones(1))], extrapolation="future")
    with pytest.raises(ValueError, match="weight=-1 must be 0 or more"):
        historical_averaging([torch.nn.Parameter(torch.ones(1))], optimizer=kind, weight=-1)


@pytest.mark.parametrize("choice", ["optimistic_adam", "extragradient"])
def test_choices_have_the_papers_betas(choice):
    config = compose(f"optimizer@generator_optimizer={choice}").generator_optimizer
    assert hydra.utils.instantiate(config)([torch.nn.Parameter(torch.ones(1))]).defaults["betas"] == (0.5, 0.9)


def test_its_numbers_are_scheduled():
    model = gan(schedules={"discriminator_optimizer": {"beta2": Linear(0.9, 0.99, 16), "lr": Linear(1.0, 0.5, 16)}})
    model.optimizer_factories["discriminator"] = OptimisticAdam
    fit(model)
    (group,) = model._lightning_optimizer("discriminator").param_groups
    assert (group["lr"], group["betas"]) == (0.5, (0.5, 0.99))


def test_a_refused_option_is_named_with_its_network():
    model = gan()
    model.optimizer_factories["generator"] = lambda groups: OptimisticAdam(groups, lr=-1)
    with pytest.raises(InputError, match="generator_optimizer cannot be built with these options: lr=-1"):
        model.configure_optimizers()


REMEDIES = (  # of random numbers and states of their own
    "minibatch=std",
    "discriminator.packing=2",
    "loss.label_smoothing=0.1",
    "loss.label_flipping=0.2",
    "penalty=[dragan,drift]",
    "augment=instance_noise",
    "+schedule@schedules.augment.instance_noise.sigma=linear",
    "schedules.augment.instance_noise.sigma.start=0.2",
    "schedules.augment.instance_noise.sigma.end=0.0",
    "+schedule@schedules.task.top_k=linear",
    "schedules.task.top_k.start=1.0",
    "schedules.task.top_k.end=0.5",
)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (OptimisticAdam, {}),
        (Extragradient, {}),
        (Extragradient, {"extrapolation": "standard"}),
        (historical_averaging, {"optimizer": torch.optim.Adam, "weight": 0.1}),
    ],
    ids=lambda value: value.__name__ if callable(value) else ",".join(value),
)
def test_its_state_is_in_checkpoints(kind, options, tmp_path):
    """An optimizer that took the state continues as the one that wrote it, bit for bit."""
    path, updates = tmp_path / "state", []
    gradients = torch.randn(6, 4)
    for stop in (None, 3):
        weight = torch.nn.Parameter(torch.ones(4))
        optimizer = kind([weight], lr=0.1, **options)
        for step, gradient in enumerate(gradients):
            if step == stop:
                torch.save(optimizer.state_dict(), path)
                optimizer = kind([weight], lr=9.0, **options)
                optimizer.load_state_dict(torch.load(path, weights_only=True))
            weight.grad = gradient.clone()
            optimizer.step()
        updates.append(weight.detach())
    assert torch.equal(*updates)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["optimistic_adam", "extragradient", "historical_averaging"])
def test_a_stopped_run_with_remedies_equals_an_uninterrupted_one(choice, monkeypatch, capsys, tmp_path):
    """Bit for bit: the optimizers' states, flips, noise and schedules."""
    monkeypatch.chdir(tmp_path)
    optimizers = [f"optimizer@{network}_optimizer={choice}" for network in ("generator", "discriminator")]
    options = (*TINY, *optimizers, *REMEDIES, "trainer.log_every_n_steps=1")
    assert run(monkeypatch, capsys, *options, "hydra.run.dir=whole")[0] == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 24, signal.SIGTERM)
        assert run(monkeypatch, capsys, *options, "hydra.run.dir=stopped")[0] == 1
    code, _, err = run(monkeypatch, capsys, "resume=stopped")
    assert code == 0, err
    assert_same(tmp_path / "stopped", tmp_path / "whole")
