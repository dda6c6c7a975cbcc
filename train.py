"""The main job: ``python train.py backbone=xception``. The same program as ``medsynth train``."""

from medsynth.cli.compose import start

if __name__ == "__main__":
    start("train")
