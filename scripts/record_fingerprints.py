"""Record the fingerprints of known weights, by which files are told from those of networks with equal shapes.

    uv run scripts/record_fingerprints.py FOLDER

writes medsynth/backbone/fingerprints.json anew: the packaged networks, the embedded one, and each NAME.safetensors in
FOLDER, where NAME is timm's name of the network that the file is certainly of. Without FOLDER's file a network that is
recorded already keeps its line. Before a network is added, see that it names photographs rightly with these weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from medsynth.backbone import sisters
from medsynth.backbone.network import TimmBackbone
from medsynth.backbone.packaged import PACKAGES

SOURCES = {"medsynth_mini": "embedded", **dict.fromkeys(PACKAGES, "packaged")}


def main() -> None:
    """Write the file."""
    files = {path.stem: str(path) for folder in sys.argv[1:] for path in sorted(Path(folder).glob("*.safetensors"))}
    recorded = dict(sisters.FINGERPRINTS)
    for name, weights in {**SOURCES, **files}.items():
        backbone = TimmBackbone(model_name=name, channels=1, image_size=64, weights=weights)
        recorded[name] = [float(f"{value:.6g}") for value in sisters.fingerprint(backbone.network).tolist()]
    lines = [f"  {json.dumps(name)}: {json.dumps(recorded[name])}" for name in sorted(recorded)]
    Path(sisters.__file__).with_name("fingerprints.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
