"""The image sets that an evaluation compares."""
