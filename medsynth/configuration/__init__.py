"""Checks and completion of a composed configuration, before anything is built from it."""
