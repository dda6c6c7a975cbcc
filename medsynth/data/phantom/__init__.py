"""Procedural phantoms: slices of computed tomography made from a seed, without any patient's data.

A picture is painted shape by shape in Hounsfield units on a grid in millimeters (canvas), by one file per anatomy
(head, abdomen, chest; what the latter two share is in trunk), then gets its lesions, the blur and the noise of a
scanner, and the window that maps HU to [-1, 1] (source). HU = 1000 (mu - mu_water) / mu_water, so that air is -1000
and water 0 (W. A. Kalender, Computed Tomography, 3rd ed., 2011).
"""

from medsynth.data.phantom.source import PhantomImages, Phantoms

__all__ = ["PhantomImages", "Phantoms"]
