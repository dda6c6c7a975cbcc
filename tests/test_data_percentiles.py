"""Percentiles of values that come in parts, against those of NumPy."""

import numpy as np
import pytest

from medsynth.data.percentiles import percentiles


@pytest.mark.parametrize("count", [1, 2, 7, 999, 20_000])
@pytest.mark.parametrize("kind", ["normal", "whole", "constant", "tiny", "huge"])
def test_percentiles_of_parts_are_those_of_all(kind, count):
    random = np.random.default_rng(count)
    values = {
        "normal": random.normal(-3, 20, count),
        "whole": random.integers(-1000, 3000, count),
        "constant": np.full(count, -0.25),
        "tiny": random.normal(0, 1e-40, count),  # below the smallest normal float32
        "huge": random.normal(0, 1e37, count),
    }[kind].astype(np.float32)
    percents = (0, 0.5, 37.5, 50, 99.5, 100)
    found = percentiles(lambda: np.array_split(values, 3), count, percents)
    np.testing.assert_allclose(found, np.percentile(values.astype(np.float64), percents), rtol=1e-12, atol=0)
