"""The main job: ``python train.py backbone=xception``. The same program as ``medsynth train``."""

from medsynth.cli import main

if __name__ == "__main__":
    main("train")
