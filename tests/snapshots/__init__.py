"""What the commands of README.md compose to and write, recorded; ``record.py`` makes it, ``update.py`` stores it."""
