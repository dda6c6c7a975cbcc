"""DICOM images: ``headers`` tells them from other files, ``series`` orders them, ``pixels`` and ``values`` decode.

What is written in a file may identify a patient. Reasons, remarks and errors are in words of this folder's own; of what
files say they hold at most codes of the standard, such as the modality.
"""

from medsynth.data.dicom.reader import Dicom as Dicom
