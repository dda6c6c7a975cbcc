"""``python -m medsynth COMMAND``: the same as the command ``medsynth``."""

from medsynth.cli import main

main()
