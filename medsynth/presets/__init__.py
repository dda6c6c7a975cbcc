"""Measured presets: which composition was nearest to real images at equal time, by the number of training images."""
