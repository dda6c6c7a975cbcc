"""Usefulness of generated images: networks trained with and without them, tested on real images, against controls."""
