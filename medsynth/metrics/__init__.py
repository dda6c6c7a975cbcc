"""Measures of generated images against real ones, on features and on pixels, with intervals and baselines."""
