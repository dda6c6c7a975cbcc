"""Print the real-vs-real baseline of the metrics: real images against other real images.

No generator can be expected to do better.

    uv run scripts/measure_baseline.py [override ...]

Overrides are those of train.py, e.g. ``data=image_folder data.root=my/images``. The validation images are
compared with as many training images.
"""

from __future__ import annotations

import math
import sys

import hydra
import torch
from hydra.utils import instantiate

from medsynth.cli.compose import register_resolvers
from medsynth.configuration.compose import conf_folder


def main() -> None:
    """Compute the metrics of the composed data and print them."""
    register_resolvers()
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = hydra.compose("train", overrides=[*sys.argv[1:], "run_dir=unused"])
    data = instantiate(config.data, _convert_="all")
    data.prepare()
    metrics = instantiate(config.metrics, _convert_="all")
    count = min(data.num_val, data.num_train)
    metrics.update(data.val_batch(count)["image"], real=True)
    batches = data.calibration_batches(math.ceil(count / data.batch_size))  # in random order: files often have one
    metrics.update(torch.cat([batch["image"] for batch in batches])[:count], real=False)
    for name, value in metrics.compute().items():
        print(f"{name:12} {value:.4g}")


if __name__ == "__main__":
    main()
