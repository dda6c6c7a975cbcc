"""``medsynth translate``: whole series in, whole series out; a translator that changes nothing has a known answer."""

import dataclasses
import json

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.pixels import apply_modality_lut
from torch import nn

from medsynth.contracts import Intensity
from medsynth.data.dicom import Dicom
from medsynth.data.metaimage import load_metaimage
from medsynth.data.paired_folder import PairedFolder
from medsynth.data.phantom import PhantomPairs
from medsynth.data.source_statistics import distance, limit, source_statistics
from medsynth.data.writer.series import PngSeries
from medsynth.generator.export import save_generator
from medsynth.translate.patches import starts, translated
from medsynth.translate.sources import neighbors
from tests.command import run
from tests.dicom_files import uid, write_ct_slice
from tests.files import prepared, write_images
from tests.test_data_pair_files import metaimage
from tests.test_generate import types

SIZE = 16
HU = {"low": -1024.0, "high": 1500.0, "unit": "HU"}
RNG = np.random.default_rng(0)


class Stub(nn.Module):
    """A translator that returns one of its source's channels, plus its noise."""

    def __init__(self, image_size: int, channel: int = 0, latent_dim: int = 0, source_channels: int = 1):
        super().__init__()
        self.image_size, self.channel, self.latent_dim = image_size, channel, latent_dim
        self.source_channels = source_channels
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, source, z=None):
        assert source.shape[1:] == (self.source_channels, self.image_size, self.image_size)
        image = self.scale * source[:, self.channel : self.channel + 1]
        return image if z is None else image + 0.01 * z[:, :1, None, None]


@pytest.fixture
def translate(monkeypatch, capsys, tmp_path):
    """Run the command by a stub: (exit code, standard error, folder of the output)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments, options=None, **card):
        options = {"image_size": SIZE} | (options or {})
        card = {
            "kind": "translator",
            "image_size": SIZE,
            "channels": 1,
            "source_channels": options.get("source_channels", 1),
            "intensity": HU,
            "source_intensity": HU,
            "source_statistics": None,
            "spacing": [0.75, 0.5],
            "modality": "CT",
        } | card
        config = {"_target_": "tests.test_translate.Stub", **options}
        save_generator(tmp_path / "generator.safetensors", Stub(**options), config=config, card=card)
        given = ("run=generator.safetensors", "trust=true", "out=out", "device=cpu", *arguments)
        code, _, err = run(monkeypatch, capsys, *given, command="translate")
        return code, err, tmp_path / "out"

    return command


def volume(count=5, shape=(40, 33)):
    return RNG.integers(0, 2500, (count, *shape)).astype(np.uint16)


def dicom_series(root, stored=None, **elements):
    """Write a series whose files are named in another order than that of its slices."""
    stored = volume() if stored is None else stored
    for number, pixels in enumerate(stored):
        write_ct_slice(
            root / f"{9 - number}.dcm",
            pixels,
            position=5.0 * number - 7,
            instance_number=50 - number,
            **{
                "FrameOfReferenceUID": uid("frame"),
                "PatientName": "Doe^Jane",
                "SliceThickness": 5.0,
                "PatientPosition": "HFS",
                "StudyDescription": "Jane's study",
                **elements,
            },
        )
    return stored.astype(np.float64) - 1024


def read_back(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def hounsfield(datasets):
    return np.stack([apply_modality_lut(dataset.pixel_array, dataset) for dataset in datasets])


def test_dicom_comes_out_with_its_values_and_its_place_marked_as_synthetic(translate, tmp_path):
    expected = dicom_series(tmp_path / "in")
    code, err, out = translate("data=dicom", "data.root=in")
    assert code == 0, err
    made = read_back(out / "series_0000")
    assert np.abs(hounsfield(made) - expected.clip(-1024, 1500)).max() < 0.5
    sources = {float(d.ImagePositionPatient[2]): d for d in map(pydicom.dcmread, (tmp_path / "in").iterdir())}
    for number, dataset in enumerate(made):
        source = sources[5.0 * number - 7]
        assert dataset.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert dataset.SyntheticData == "YES"
        assert "Synthetic" in dataset.SeriesDescription
        assert "Not acquired" in dataset.DerivationDescription
        for keyword in (
            *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID", "PatientID"),
            *("StudyInstanceUID", "PatientName", "SliceThickness", "PatientPosition", "Rows", "Columns"),
        ):
            assert dataset[keyword].value == source[keyword].value, keyword
        assert dataset.SeriesInstanceUID not in ("", source.SeriesInstanceUID)
        assert dataset.SOPClassUID == pydicom.uid.CTImageStorage
        assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert dataset.InstanceNumber == number + 1
        assert (dataset.RescaleType, dataset.Modality) == ("HU", "CT")
    assert len({dataset.SOPInstanceUID for dataset in made}) == len({d.SeriesInstanceUID for d in made}) * 5 == 5
    scan = Dicom(str(out / "series_0000")).scan()
    assert (len(scan.records), scan.unit, scan.modality) == (5, "HU", "CT")
    record = json.loads((out / "translate.json").read_text())
    assert record["series"][0]["slices"] == 5
    assert "Jane" not in json.dumps(record)


def test_without_an_identity_nothing_of_the_source_is_told(translate, tmp_path):
    dicom_series(tmp_path / "in" / "a", PatientID="Jane1", StudyInstanceUID=uid("one"))
    dicom_series(tmp_path / "in" / "b", PatientID="Jane1", StudyInstanceUID=uid("one"), SeriesInstanceUID=uid("b"))
    code, err, out = translate("data=dicom", "data.root=in", "identity=remove")
    assert code == 0, err
    one, other = (read_back(out / f"series_000{number}")[0] for number in range(2))
    text = str(one)
    for private in ("Jane", "Doe", uid("one"), uid("frame"), uid("instance")):
        assert private not in text
    assert "SourceImageSequence" not in one
    assert one.StudyInstanceUID == other.StudyInstanceUID
    assert one.FrameOfReferenceUID == other.FrameOfReferenceUID, "the same place stays the same place"
    assert one.SeriesInstanceUID != other.SeriesInstanceUID


def pixels_as_they_are():
    """The card of a translator whose sources are not resampled."""
    geometry = {"resize": "none", "size": SIZE, "channels": 1}
    statistics = source_statistics([{"image": torch.zeros(1, 4, 4)}], Intensity(**HU), modality="", geometry=geometry)
    return {"source_statistics": statistics, "spacing": None}


@pytest.mark.parametrize(
    ("codes", "axis"),
    [
        ("LPS", "axial"),
        ("PIR", "sagittal"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in [("RAS", "axial"), ("SAL", "axial"), ("SAL", "coronal")]
        ),
    ],
)
def test_volumes_keep_affine_shape_and_order_of_axes(codes, axis, translate, tmp_path):
    affine = nibabel.orientations.inv_ornt_aff(nibabel.orientations.axcodes2ornt(codes), (20, 18, 7))
    affine = affine @ np.diag([0.75, 0.5, 2.0, 1]) + np.array([[0, 0, 0, 11], [0, 0, 0, -3], [0, 0, 0, 5], [0] * 4])
    voxels = RNG.integers(-1000, 1400, (20, 18, 7)).astype(np.int16)
    voxels[:, :, 0] = -1000  # a slice without content is translated too
    (tmp_path / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "in" / "case.nii.gz")
    options = ("data=nifti", "data.root=in", "format=nifti", f"data.reader.axis={axis}", "allow_other_source=true")
    code, err, out = translate(*options, **pixels_as_they_are())
    assert code == 0, err
    made = nibabel.load(out / "series_0000.nii.gz")
    assert made.shape == voxels.shape
    np.testing.assert_allclose(made.affine, affine, atol=1e-5)
    np.testing.assert_allclose(made.get_fdata(), voxels, atol=0.01)


@pytest.mark.parametrize("given", ["mha", "mhd", "synthrad"])
def test_metaimages_come_out_in_their_place(given, translate, tmp_path):
    """SynthRAD's layout needs neither target nor mask; a header's voxels may be in a file beside it."""
    affine = nibabel.orientations.inv_ornt_aff(nibabel.orientations.axcodes2ornt("PIR"), (7, 12, 11))
    affine = affine @ np.diag([2.0, 0.75, 0.5, 1]) + np.array([[0, 0, 0, 11], [0, 0, 0, -3], [0, 0, 0, 5], [0] * 4])
    voxels = RNG.integers(-1000, 1400, (7, 12, 11)).astype(np.int16)
    folder = tmp_path / "in" / "1BA001"
    folder.mkdir(parents=True)
    if given == "mhd":
        header = metaimage(voxels, affine, compressed=False, ElementDataFile="mr.raw")
        (folder / "mr.mhd").write_bytes(header[: -voxels.nbytes])
        (folder / "mr.raw").write_bytes(voxels.tobytes(order="F"))
    else:
        (folder / "mr.mha").write_bytes(metaimage(voxels, affine))
    reader = ("data=synthrad", "data.reader.axis=coronal") if given == "synthrad" else ("data=nifti",)
    options = ("data.root=in", "format=mha", "allow_other_source=true")
    code, err, out = translate(*reader, *options, **pixels_as_they_are())
    assert code == 0, err
    made = load_metaimage((out / "series_0000.mha").read_bytes())
    np.testing.assert_allclose(made.file_affine, affine, atol=1e-6)
    expected = load_metaimage(metaimage(voxels.astype(np.float32), affine))
    assert made.stored.shape == expected.stored.shape
    np.testing.assert_allclose(made.stored, expected.stored, atol=0.01)
    assert b"Comment = synthetic translation: medsynth" in (out / "series_0000.mha").read_bytes()
    (record,) = json.loads((out / "translate.json").read_text())["series"]
    along = 1 if given == "synthrad" else 2  # coronal slices follow each other to the front, axial ones upwards
    count = voxels.shape[np.abs(affine[along, :3]).argmax()]
    assert (record["slices"], record["modality"]) == (count, "MR" if given == "synthrad" else "")


def test_a_folder_without_sources_of_synthrad_is_refused(translate, tmp_path):
    (tmp_path / "in" / "1BA001").mkdir(parents=True)
    (tmp_path / "in" / "1BA001" / "ct.mha").write_bytes(metaimage(np.zeros((4, 4, 4), np.int16), np.eye(4)))
    code, err, out = translate("data=synthrad", "data.root=in", "format=mha")
    assert code == 1
    assert "holds no mr (.mha, .mhd, .nii.gz, .nii): name the volumes to translate by data.reader.source=" in err
    assert not out.exists()


def test_a_dicom_series_becomes_a_volume_in_its_place(translate, tmp_path):
    expected = dicom_series(tmp_path / "in")
    code, err, out = translate("data=dicom", "data.root=in", "format=nifti")
    assert code == 0, err
    made = nibabel.load(out / "series_0000.nii.gz")
    for slice_, row, column in [(0, 0, 0), (4, 39, 0), (2, 7, 30)]:
        left_posterior_superior = np.array([-100 + 0.5 * column, -100 + 0.75 * row, 5.0 * slice_ - 7])
        place = made.affine @ [column, row, slice_, 1]
        np.testing.assert_allclose(place[:3], left_posterior_superior * [-1, -1, 1], atol=1e-4)
        value = made.get_fdata()[column, row, slice_]
        assert value == pytest.approx(expected[slice_, row, column].clip(-1024, 1500), abs=0.01)


def test_slices_at_unequal_distances_are_no_volume(translate, tmp_path):
    for number, position in enumerate([0.0, 5.0, 15.0]):
        write_ct_slice(tmp_path / "in" / f"{number}.dcm", volume()[0], position=position)
    code, err, out = translate("data=dicom", "data.root=in", "format=nifti")
    assert code == 1
    assert "format=nifti needs slices of known positions at equal distances" in err
    assert not out.exists()


@pytest.mark.parametrize("form", ["png16", "npy"])
def test_images_of_a_folder_become_files_or_arrays(form, translate, tmp_path):
    write_images(tmp_path / "in", 3, size=(SIZE, SIZE))
    intensity = {"low": 0.0, "high": 255.0, "unit": "stored value"}
    arguments = ("data=image_folder", "data.root=in", f"format={form}")
    code, err, out = translate(*arguments, intensity=intensity, source_intensity=intensity, spacing=None, modality="")
    assert code == 0, err
    expected = [np.asarray(Image.open(path)).astype(float) for path in sorted((tmp_path / "in").iterdir())]
    if form == "npy":
        made = [np.load(out / f"series_{number:04d}.npy")[0, 0] for number in range(3)]
        np.testing.assert_allclose(made, expected, atol=1e-4)
    else:
        made = [np.asarray(Image.open(out / f"series_{number:04d}" / "000000.png")) / 257 for number in range(3)]
        np.testing.assert_allclose(made, expected, atol=0.01)
    code, err, _ = translate("data=image_folder", "data.root=in", "out=other", spacing=None)
    assert code == 1
    assert "format=dicom keeps the place of DICOM series" in err
    assert not (tmp_path / "other").exists()


def test_equalized_sources_are_mapped_as_those_of_the_training(translate, tmp_path):
    """CLAHE follows the map of the values' range, which the ends of the equalized levels are not."""
    for number in range(12):
        image = Image.fromarray((60 + 10 * number + RNG.integers(0, 20, (SIZE, SIZE))).astype(np.uint8))
        for folder in (tmp_path / "pairs" / "source", tmp_path / "pairs" / "target"):
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{number:02}.png")
    data = prepared(tmp_path / "pairs", PairedFolder, image_size=SIZE, clahe=0.05, normalize="min_max")
    level = dataclasses.asdict(data.source_intensity)
    assert level["unit"] == "equalized level (CLAHE)"
    arguments = ("data=image_folder", f"data.root={tmp_path / 'pairs' / 'source'}", "format=npy")
    card = {"intensity": level, "source_intensity": level, "spacing": None, "modality": ""}
    code, err, out = translate(*arguments, source_statistics=data.source_statistics, **card)
    assert code == 0, err
    made = np.stack([np.load(out / f"series_{number:04d}.npy")[0] for number in range(12)])
    sets = (data.train_dataset, data.val_dataset, data.test_dataset)
    trained = np.stack([(sample["image"].numpy() + 1) / 2 for each in sets if each for sample in each])
    distances = np.abs(made[:, None] - trained[None]).mean(axis=(2, 3, 4))
    assert sorted(distances.argmin(axis=1)) == list(range(12))
    assert distances.min(axis=1).max() < 0.002

    earlier = {name: value for name, value in data.source_statistics.items() if name != "bounds"}
    code, err, _ = translate(*arguments, "out=earlier", source_statistics=earlier, **card)
    assert code == 1
    assert "did not store their range: train it again" in err


def test_samples_differ_by_their_noise_and_their_deviation_is_written(translate, tmp_path):
    dicom_series(tmp_path / "in", volume(2).clip(500, 2000))
    options = ("data=dicom", "data.root=in", "format=npy", "samples=4")
    code, err, out = translate(*options, options={"latent_dim": 2})
    assert code == 0, err
    folder = out / "series_0000"
    samples = np.stack([np.load(folder / f"sample_{number}.npy") for number in range(4)])
    assert len({float(sample[0, 0, 0, 0]) for sample in samples}) == 4
    offsets = samples - samples[:1]
    assert np.ptp(offsets, axis=(1, 2, 3, 4)).max() < 0.01, "one noise for all slices and patches of a sample"
    np.testing.assert_allclose(np.load(folder / "uncertainty.npy"), samples.std(axis=0, ddof=1), atol=0.01)
    assert translate(*options, "out=other")[0] == 1, "a translator without noise"
    assert "would all be equal" in translate(*options, "out=other")[1]


def test_slices_on_either_side_are_channels_and_the_ends_are_repeated(translate, tmp_path):
    expected = dicom_series(tmp_path / "in").clip(-1024, 1500)
    statistics = {"neighbors": 2, "modality": "CT", "quantiles": [-1024.0, 1500.0], "spread": 10.0}
    statistics["quantiles"] = np.linspace(-1024, 1500, 33).tolist()
    options = {"source_channels": 5, "channel": 4}
    arguments = ("data=dicom", "data.root=in", "format=npy")
    code, err, out = translate(*arguments, options=options, source_statistics=statistics)
    assert code == 0, err
    np.testing.assert_allclose(np.load(out / "series_0000.npy")[:, 0], expected[[2, 3, 4, 4, 4]], atol=0.01)
    assert [neighbors(index, 3, 1) for index in range(3)] == [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    write_images(tmp_path / "flat", 2, size=(SIZE, SIZE))
    arguments = ("data=image_folder", "data.root=flat", "format=npy", "out=o", "allow_other_source=true")
    code, err, _ = translate(*arguments, options=options, source_statistics=statistics)
    assert code == 1
    assert "sees 2 slices on either side" in err


def test_a_grid_of_another_spacing_is_that_of_the_training_inside(translate, tmp_path):
    """A smooth image survives the way to coarser pixels and back; the matrix stays."""
    row, column = np.meshgrid(np.linspace(0, 3, 64), np.linspace(0, 4, 48), indexing="ij")
    smooth = (1000 + 400 * np.sin(row) * np.cos(column)).astype(np.uint16)
    expected = dicom_series(tmp_path / "in", smooth[None], PixelSpacing=[0.5, 0.5])
    code, err, out = translate("data=dicom", "data.root=in", "format=npy", spacing=[1.0, 1.5])
    assert code == 0, err
    made = np.load(out / "series_0000.npy")
    assert made.shape == (1, 1, 64, 48)
    assert np.abs(made[0] - expected).max() < 30
    assert np.abs(made[0] - expected).mean() < 6


def test_sources_of_another_kind_are_refused_unless_allowed(translate, tmp_path):
    dicom_series(tmp_path / "in", Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4", RescaleType="US")
    dicom_series(tmp_path / "ct", volume().clip(2000, 2500))
    dark = [{"image": torch.rand(1, 8, 8) * 0.1 - 1} for _ in range(5)]
    statistics = source_statistics(dark, Intensity(**HU), modality="CT")
    options = {"source_statistics": statistics}
    code, err, out = translate("data=dicom", "data.root=in", **options)
    assert code == 1
    assert "is of modality MR, and the translator was trained on CT" in err
    code, err, _ = translate("data=dicom", "data.root=ct", **options)
    assert code == 1
    assert "their distributions are" in err
    assert "allow_other_source=true" in err
    assert not out.exists()
    assert translate("data=dicom", "data.root=ct", "allow_other_source=true", **options)[0] == 0


def test_values_of_another_contrast_are_told_from_those_of_other_patients():
    """MR-like images and CT of the head, and the same with other seeds and noise."""
    ct, other, mr = (
        [{"image": sample[name]} for sample in map(source.datasets().train.__getitem__, range(24))]
        for source, name in (
            (PhantomPairs(image_size=32, num_images=24, seed=0), "target"),
            (PhantomPairs(image_size=32, num_images=24, seed=5, noise_hu=6), "target"),
            (PhantomPairs(image_size=32, num_images=24, seed=0), "image"),
        )
    )
    intensity = Intensity(-20.0, 100.0, "HU")
    statistics = source_statistics(ct, intensity, modality="CT")
    assert json.loads(json.dumps(statistics)) == statistics
    most = limit(statistics)
    assert distance([sample["image"] for sample in other], intensity, statistics) < most
    assert max(distance([sample["image"]], intensity, statistics) for sample in other) < most
    assert distance([sample["image"] for sample in mr], intensity, statistics) > 1.3 * most
    assert distance([-sample["image"] for sample in ct], intensity, statistics) > 2 * most


def test_an_interrupted_translation_leaves_nothing_and_a_second_overwrites_nothing(translate, tmp_path, monkeypatch):
    dicom_series(tmp_path / "in")
    with monkeypatch.context() as patch:
        add, seen = PngSeries.add, []

        def interrupted(self, number, image):
            seen.append(number)
            if number == 3:
                raise KeyboardInterrupt
            add(self, number, image)

        patch.setattr(PngSeries, "add", interrupted)
        assert translate("data=dicom", "data.root=in", "format=png16")[0] != 0
    assert seen == [0, 1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generator.safetensors", "in"]
    assert translate("data=dicom", "data.root=in", "format=png16")[0] == 0
    before = (tmp_path / "out" / "translate.json").read_bytes()
    code, err, out = translate("data=dicom", "data.root=in", "format=png16")
    assert code == 1
    assert "out=out exists already" in err
    assert (out / "translate.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "card", "message"),
    [
        (["format=jpeg"], {}, "format=jpeg is unknown: choose dicom, nifti, mha, png16, npy"),
        (["samples=0"], {}, "samples=0 must be 1 or more"),
        (["overlap=1"], {}, "overlap=1 is not possible"),
        (["identity=hide"], {}, "identity=hide is unknown"),
        (["out=null"], {}, "out= is needed: the folder to write the translations to"),
        (["data.root=nowhere"], {}, "data.root=nowhere does not exist"),
        (
            [],
            {"source_intensity": {"low": 1, "high": 0, "unit": "HU"}},
            "does not describe the images that it translates",
        ),
        (
            [],
            {"source_statistics": {"quantiles": ["a"], "spread": 1}},
            "does not describe the images that it translates",
        ),
        ([], {"source_statistics": {"quantiles": [1], "spread": 1, "neighbors": 7}}, "does not describe the images"),
        ([], {"intensity": None}, "does not describe the images that it translates (TypeError): copy it again"),
        ([], {"kind": None}, "medsynth generate"),
    ],
)
def test_impossible_options_are_refused(arguments, card, message, translate, tmp_path):
    dicom_series(tmp_path / "in", volume(1))
    code, err, out = translate("data=dicom", "data.root=in", *arguments, **card)
    assert code == 1
    assert message in err
    assert not out.exists()


def test_a_series_with_a_damaged_slice_is_refused(translate, tmp_path):
    dicom_series(tmp_path / "in")
    path = tmp_path / "in" / "7.dcm"
    path.write_bytes(path.read_bytes()[:-500])
    code, err, out = translate("data=dicom", "data.root=in")
    assert code == 1
    assert "repair or remove" in err
    assert not out.exists()


@pytest.mark.parametrize(("shape", "overlap"), [((16, 16), 0), ((40, 33), 0.25), ((9, 50), 0.5), ((100, 17), 0.9)])
def test_patches_cover_an_image_of_any_size(shape, overlap):
    images = [torch.rand(2, *shape) for _ in range(2)]
    made = translated(images, lambda patches: -patches, size=16, overlap=overlap, batch_size=5)
    assert [image.shape for image in made] == [image.shape for image in images]
    for image, expected in zip(made, images, strict=True):
        torch.testing.assert_close(image, -expected)


def test_neighboring_patches_are_blended_by_ramps():
    number = iter(range(100))
    images = [torch.zeros(1, 16, 28)]
    constant = lambda patches: torch.stack([torch.full_like(patch, next(number)) for patch in patches])  # noqa: E731
    (made,) = translated(images, constant, size=16, overlap=0.25, batch_size=1)
    row = made[0, 8]
    assert torch.equal(row[:12], torch.zeros(12))
    assert torch.equal(row[16:], torch.ones(12))
    torch.testing.assert_close(row[12:16], torch.tensor([0.125, 0.375, 0.625, 0.875]))
    assert starts(28, 16, 0.25) == [0, 12]
    assert starts(29, 16, 0.25) == [0, 6, 13]


@pytest.mark.parametrize("modality", ["CT", *(pytest.param(code, marks=pytest.mark.slow) for code in ("MR", ""))])
def test_dicom_keeps_to_the_standards_tables(modality, translate, tmp_path):
    """The modules of the file's IOD as highdicom has them: what must be there is there."""
    dicom_series(tmp_path / "in", volume(1), modality="US", SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1")
    arguments = ("data=dicom", "data.root=in", "allow_other_source=true", "data.reader.captures=true")
    code, err, out = translate(*arguments, modality=modality)
    assert code == 0, err
    (dataset,) = read_back(out / "series_0000")
    known = types(dataset)
    assert dataset.Modality == (modality or "US")
    for element in dataset:  # decodes and validates each of them
        assert element.value is not None or element.is_empty
    for keyword, kinds in known.items():
        if ("1", True) in kinds:
            assert dataset.get(keyword) not in (None, ""), keyword
        if ("2", True) in kinds:
            assert keyword in dataset, keyword
    place = {"ImagePositionPatient", "ImageOrientationPatient", "PositionReferenceIndicator", "SliceThickness"}
    place |= {"FrameOfReferenceUID", "PatientPosition", "SourceImageSequence"}
    more = {keyword for keyword in (element.keyword for element in dataset) if keyword not in known}
    if modality != "MR":  # whose IOD has no place for physical units, which readers take from a file of any IOD
        assert more <= (place if not modality else set())
