"""The normal distribution that an encoder gives for an image's noise: samples, and the divergence from the prior."""

from __future__ import annotations

from torch import Tensor


def sampled(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Return a sample of each distribution, with gradients for mean and variance (the reparameterization trick).

    Kingma and Welling 2014, section 2.4: ``mean + deviation * noise``.

    Args:
        mean: (N, latent_dim).
        log_variance: (N, latent_dim).
        noise: standard normal, (N, latent_dim).
    """
    return mean + (log_variance / 2).exp() * noise


def divergence_from_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of each image's distribution (N, latent_dim) from N(0, I), averaged.

    Kingma and Welling 2014, appendix B: half the sum of ``mean^2 + variance - log variance - 1``.
    """
    return (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1).mean() / 2


def reconstruction_error(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Return the negative log likelihood under a normal distribution of variance 1, without its constant, averaged.

    It is half the squared distance of each image, or of its features, from its reconstruction, (N, ...) both.
    """
    return (images - reconstructions).square().flatten(1).sum(dim=1).mean() / 2
