"""Procedural phantoms: slices of computed tomography rendered from a seed, without any patient's data.

An image is painted shape by shape in Hounsfield units on a grid in millimeters (canvas), with one file per anatomy
(head, abdomen, chest; trunk holds the parts that the latter two share). Lesions, the blur and noise of a scanner, and
the window that maps HU to [-1, 1] follow (source); pairs for translation have a second image (pairs).
HU = 1000 (mu - mu_water) / mu_water, so that air is -1000 and water 0 (W. A. Kalender, Computed Tomography, 3rd ed.,
2011).
"""

from medsynth.data.phantom.pairs import PhantomPairs
from medsynth.data.phantom.source import PhantomImages, Phantoms

__all__ = ["PhantomImages", "PhantomPairs", "Phantoms"]
