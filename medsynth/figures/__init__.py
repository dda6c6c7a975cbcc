"""Figures of a run for a paper, each beside its numbers: samples, neighbors, paths, embeddings, spectra, classes."""
