"""Penalties of the discriminator, with respect to what its head sees: images, or features of a frozen backbone."""
