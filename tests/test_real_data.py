"""Public image sets, where they are at hand: MEDSYNTH_TEST_DATA names the folder with their archives."""

import gzip
import io
import os
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hydra.utils import instantiate
from pydicom.pixels import apply_rescale

from medsynth.contracts import Intensity
from medsynth.data.dicom import Dicom
from medsynth.data.nifti import Nifti
from tests.test_conf import compose

FOLDER = os.environ.get("MEDSYNTH_TEST_DATA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="MEDSYNTH_TEST_DATA does not name a folder with public image sets")


def path(name):
    found = Path(FOLDER) / name
    if not found.exists():
        pytest.skip(f"{name} is not in MEDSYNTH_TEST_DATA")
    return str(found)


@pytest.mark.parametrize(
    ("choice", "file", "images", "classes", "patients", "unit"),
    [
        ("lung_ct", "lung_ct_dicom.zip", 64, 0, 2, "HU"),
        ("hippocampus", "hippocampus_nifti_60.zip", 2990, 3, 60, "fraction of the image's own range (percentile)"),
        ("pneumoniamnist", "pneumoniamnist_balanced_28.npz", 3166, 2, 0, "stored value"),
        ("lung_ct_kernel_pairs", "lung_ct_kernel_pairs_256.zip", 94, 0, 2, "stored value"),
        ("mednist", "mednist_mini_64.zip", 2399, 3, 0, "stored value"),
    ],
)
def test_each_set_loads_by_its_yaml(choice, file, images, classes, patients, unit):
    config = compose(f"data={choice}", f"data.root={path(file)}", "data.batch_size=8")
    data = instantiate(config.data, _convert_="all")
    data.prepare()
    assert (len(data.source.store), data.num_classes) == (images, classes)
    assert len(set(data.source.columns["patient"]) - {""}) == patients
    assert data.intensity.unit == unit
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 1, data.image_size, data.image_size)
    assert batch["image"].std() > 0.1


def test_hounsfield_units_are_pydicoms_pixel_for_pixel():
    reader = Dicom(path("lung_ct_dicom.zip"))
    items = reader.scan().records
    assert len(items) == 64
    with zipfile.ZipFile(path("lung_ct_dicom.zip")) as archive:
        for item in items:
            (picture,), _ = reader.read(item)
            dataset = pydicom.dcmread(io.BytesIO(archive.read(item.name)))
            np.testing.assert_array_equal(picture.values[0], apply_rescale(dataset.pixel_array, dataset))


def test_voxels_are_nibabels():
    reader = Nifti(path("hippocampus_nifti_60.zip"), images="images", min_content=0)
    with zipfile.ZipFile(path("hippocampus_nifti_60.zip")) as archive:
        for item in reader.scan().records[:10]:
            pictures, _ = reader.read(item)
            image = nibabel.Nifti1Image.from_bytes(gzip.decompress(archive.read(item.name)))
            volume = nibabel.as_closest_canonical(image).get_fdata()
            assert len(pictures) == volume.shape[2]
            for number, picture in enumerate(pictures):
                np.testing.assert_allclose(picture.values[0], volume[::-1, ::-1, number].T, rtol=1e-6)


def test_the_way_back_leads_to_hounsfield_units():
    """512 pixels, not resized: what the data module delivers is what was measured, clipped to the window."""
    config = compose(
        "data=lung_ct", f"data.root={path('lung_ct_dicom.zip')}", "data.image_size=512", "data.batch_size=4"
    )
    data = instantiate(config.data, _convert_="all")
    data.prepare()
    assert data.intensity == Intensity(-1350.0, 150.0, "HU")
    measured = {}
    with zipfile.ZipFile(path("lung_ct_dicom.zip")) as archive:
        for name in data.source.opened.tree.names:
            if name.endswith(".dcm"):
                dataset = pydicom.dcmread(io.BytesIO(archive.read(name)))
                values = apply_rescale(dataset.pixel_array, dataset).clip(-1350, 150)
                measured[values.astype(np.float32).tobytes()] = name
    for number in range(8):
        physical = data.intensity.to_physical(data.train_dataset[number]["image"].double())[0].round().numpy()
        assert physical.astype(np.float32).tobytes() in measured
