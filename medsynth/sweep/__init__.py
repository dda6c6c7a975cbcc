"""Sweeps: many trainings, each in a process of its own, with a record on disk that makes the sweep resumable."""
