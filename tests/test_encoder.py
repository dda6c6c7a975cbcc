"""Encoders, and the formulas of variational autoencoders against independent ones in float64."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from medsynth.contracts import Encoder, InputError, check_contract
from medsynth.encoder.dcgan import DCGANEncoder
from medsynth.encoder.posterior import divergence_from_prior, reconstruction_error, sampled

MEAN = torch.tensor([[0.3, -1.2, 2.0], [0.0, 0.5, -0.1]], dtype=torch.float64)
LOG_VARIANCE = torch.tensor([[0.2, -2.0, 1.0], [0.0, -0.3, 0.7]], dtype=torch.float64)


def test_the_divergence_is_that_of_two_normal_distributions():
    posterior = Normal(MEAN, (LOG_VARIANCE / 2).exp())
    prior = Normal(torch.zeros_like(MEAN), torch.ones_like(MEAN))
    expected = kl_divergence(posterior, prior).sum(dim=1).mean()
    torch.testing.assert_close(divergence_from_prior(MEAN, LOG_VARIANCE), expected, rtol=1e-12, atol=0)
    assert divergence_from_prior(torch.zeros(4, 3), torch.zeros(4, 3)) == 0


def test_the_error_is_the_log_likelihood_without_its_constant():
    images, made = (torch.rand(3, 1, 4, 4, dtype=torch.float64) for _ in range(2))
    likelihood = Normal(made, 1).log_prob(images).sum(dim=(1, 2, 3)) + 16 / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(reconstruction_error(images, made), -likelihood.mean(), rtol=1e-12, atol=0)


def test_samples_have_the_deviation_of_the_distribution_and_gradients_for_both_parameters():
    mean, log_variance = MEAN.clone().requires_grad_(), LOG_VARIANCE.clone().requires_grad_()
    noise = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], dtype=torch.float64)
    samples = sampled(mean, log_variance, noise)
    torch.testing.assert_close(samples, MEAN + LOG_VARIANCE.exp().sqrt() * noise)
    of_mean, of_variance = torch.autograd.grad(samples.sum(), (mean, log_variance))
    torch.testing.assert_close(of_mean, torch.ones_like(mean))
    torch.testing.assert_close(of_variance, LOG_VARIANCE.exp().sqrt() * noise / 2)


@pytest.mark.parametrize("beside", [0.0, 0.4])
def test_the_evidence_lower_bound_of_a_linear_model_is_its_evidence_at_the_true_posterior(beside):
    """x = W z + n (probabilistic PCA): p(x) and p(z | x) are known; beside the posterior the bound is lower.

    Averaged over the points mean +- sqrt(2) deviations of each axis, a quadratic error has its exact expectation.
    """
    weight = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    weight = weight * torch.tensor([1.5, 0.7], dtype=torch.float64)  # orthogonal columns: independent values of z
    image = torch.tensor([0.4, -1.0, 0.3, 0.9, -0.2], dtype=torch.float64)
    precision = 1 + weight.square().sum(dim=0)
    mean = (weight.T @ image / precision + beside).expand(4, 2)
    log_variance = -precision.log().expand(4, 2)
    axes = torch.cat([torch.eye(2), -torch.eye(2)]).double() * math.sqrt(2)
    made = sampled(mean, log_variance, axes) @ weight.T
    bound = -reconstruction_error(image.expand(4, 5), made) - divergence_from_prior(mean, log_variance)
    bound = bound.item() - 5 / 2 * math.log(2 * math.pi)
    covariance = weight @ weight.T + torch.eye(5, dtype=torch.float64)
    evidence = MultivariateNormal(torch.zeros(5, dtype=torch.float64), covariance).log_prob(image).item()
    gap = (precision * beside**2).sum().item() / 2  # the divergence from the true posterior
    assert bound == pytest.approx(evidence - gap, rel=1e-12)


@pytest.mark.parametrize("normalization", ["batch", "none"])
@pytest.mark.parametrize(("image_size", "channels"), [(8, 1), (32, 3)])
def test_the_encoder_gives_two_vectors_for_each_image(image_size, channels, normalization):
    encoder = DCGANEncoder(image_size=image_size, channels=channels, latent_dim=6, width=4, normalization=normalization)
    check_contract(encoder, Encoder, "encoder")
    images = torch.randn(5, channels, image_size, image_size)
    mean, log_variance = encoder(images)
    assert mean.shape == log_variance.shape == (5, 6)
    assert not torch.equal(mean, log_variance)
    (mean.sum() + log_variance.sum()).backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"normalization": "layer"}, "encoder.normalization=layer"), ({"image_size": 24}, "data.image_size=24 .*encoder")],
)
def test_what_the_encoder_cannot_be_is_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        DCGANEncoder(**{"image_size": 16, "channels": 1, "latent_dim": 4} | options)
