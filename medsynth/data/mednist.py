"""Reader of MedNIST: 58,954 images of 64 x 64 pixels in six classes, from MONAI (CC BY-SA 4.0, B. J. Erickson).

The images come from TCIA, the RSNA Bone Age Challenge and the NIH Chest X-ray data set: 8 bits, gray.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from medsynth.data.errors import DataError
from medsynth.data.image_folder import ImageFolder
from medsynth.data.reading import Scan
from medsynth.errors import InputError

FOLDER = "MedNIST"  # in MONAI's archive
CLASSES = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")


@dataclasses.dataclass
class MedNist(ImageFolder):
    """A reader of MedNIST's class folders; conf/data/mednist.yaml describes its options.

    ``root`` is the folder or zip archive with the class folders, or a folder that contains them in ``MedNIST``.

    Raises:
        InputError: ``root`` cannot be opened, or MedNIST cannot be downloaded.
    """

    _: dataclasses.KW_ONLY
    download: bool = False

    def __post_init__(self) -> None:
        if not self.root:
            raise InputError(
                "data.root is needed: data=mednist data.root=/path/to/MedNIST, or a folder to download to."
            )
        folder = Path(self.root).expanduser() / FOLDER
        if self.download and not folder.is_dir():
            _download(folder, self.root)
        if folder.is_dir():
            self.root = str(folder)
        super().__post_init__()

    def scan(self) -> Scan:
        """Sort the files into classes; see ImageFolder.

        Raises:
            InputError: the class folders are missing.
        """
        scan = super().scan()
        if len(scan.class_names) < 2 and not self.classes:
            raise DataError(
                f"data.root={self.tree.root} has no class folders such as {', '.join(CLASSES)}: name the folder or zip "
                f"archive that contains them."
            )
        return scan

    def key(self) -> dict[str, Any]:
        """Return the options that the images depend on."""
        options = super().key()
        del options["download"]
        return options


def _download(folder: Path, root: str) -> None:
    """Download ``folder`` completely or not at all.

    Raises:
        InputError: MedNIST cannot be downloaded or written.
    """
    # Imported here since it takes seconds.
    from monai.apps import (
        MedNISTDataset,  # pyright: ignore[reportPrivateImportUsage]
        download_and_extract,  # pyright: ignore[reportPrivateImportUsage]
    )

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
            f"data.reader.download=true could not download MedNIST to data.root={root} ({type(error).__name__}): check "
            f"the network and the disk, or download it elsewhere and give its folder: data.root=/path/to/MedNIST."
        ) from error
