"""MedNIST: 58,954 images of 64 x 64 pixels in six classes, as MONAI offers it (CC BY-SA 4.0, B. J. Erickson).

Gathered from TCIA, the RSNA Bone Age Challenge and the NIH Chest X-ray data set; eight bits, gray.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from medsynth.contracts import InputError
from medsynth.data.image_folder import ImageFolder
from medsynth.data.reading import Found

FOLDER = "MedNIST"  # that of MONAI's archive
CLASSES = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")


class MedNist(ImageFolder):
    """A reader of MedNIST's class folders (AbdomenCT, BreastMRI, CXR, ChestCT, Hand, HeadCT); see ImageFolder.

    Args:
        root: the folder or zip archive with the class folders, or the folder that has them in ``MedNIST``.
        classes: those to use; None: all.
        download: fetch MedNIST into ``root``, 60 MB, unless it is there.

    Raises:
        InputError: ``root`` cannot be opened, or MedNIST cannot be downloaded.
    """

    def __init__(self, root: str | None, *, classes: Sequence[str] | None = None, download: bool = False) -> None:
        if not root:
            raise InputError(
                "data.root is needed: data=mednist data.root=/path/to/MedNIST, or a folder to download to."
            )
        below = Path(root).expanduser() / FOLDER
        if download and not below.is_dir():
            _download(below, root)
        super().__init__(str(below) if below.is_dir() else root, classes=classes)

    def find(self) -> Found:
        """See ImageFolder.

        Raises:
            InputError: the class folders are not there, or one level too deep.
        """
        found = super().find()
        if len(found.class_names) < 2 and not self.classes:
            raise InputError(
                f"data.root={self.tree.root} has no class folders such as {', '.join(CLASSES)} at its top: it holds "
                f"them itself, as a folder or a zip archive."
            )
        return found


def _download(folder: Path, root: str) -> None:
    """Make ``folder``, whole or not at all.

    Raises:
        InputError: it cannot be downloaded or written.
    """
    from monai.apps import MedNISTDataset, download_and_extract  # seconds, which nobody else shall wait for

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as temporary:
            download_and_extract(
                MedNISTDataset.resource,
                Path(temporary) / MedNISTDataset.compressed_file_name,
                temporary,
                hash_val=MedNISTDataset.md5,
                hash_type="md5",
                progress=False,
            )
            (Path(temporary) / MedNISTDataset.dataset_folder_name).rename(folder)
    except Exception as error:  # URLError, HTTPError, ContentTooShortError, HashCheckError, OSError of the disk ...
        raise InputError(
            f"data.reader.download=true could not fetch MedNIST into data.root={root} ({type(error).__name__}): "
            f"check network and disk, or download it elsewhere and name its folder by data.root=/path/to/MedNIST."
        ) from error
