"""DICOM images: ``headers`` recognizes them, ``series`` orders them, ``pixels`` and ``values`` decode them.

The content of a file may identify a patient. Reasons, remarks and errors are fixed texts of this package; at most they
quote codes of the standard, such as the modality.
"""

from medsynth.data.dicom.reader import Dicom as Dicom
