"""``medsynth generate``: every format is read back to the generator's values, and says what it is."""

import csv
import itertools
import json

import gdcm
import nibabel
import numpy as np
import pydicom
import pytest
import torch
from highdicom import _standard_utils as standard
from monai.transforms import LoadImage
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from medsynth.contracts import InputError, counter_seed, noise
from medsynth.data.csv import Csv
from medsynth.data.writer import WRITERS, png
from medsynth.generator.export import read_generator, save_generator
from medsynth.generator.mlp import MLPGenerator
from medsynth.generator.trained import load_generator
from tests.command import run

SIZE, COUNT = 6, 5
CARD = {
    "class_names": [],
    "intensity": {"low": -1350.0, "high": 150.3, "unit": "HU"},
    "spacing": [0.7, 1.0 / 3],
    "modality": "CT",
}
CLASSES = ["healthy", "Läsion\\groß"]
FORMATS = ("png8", "png16", "nifti", "dicom", "npy")


def trained(path, *, channels=1, classes=(), card=CARD):
    """A generator file, as a run leaves it; its images take the whole range from -1 to 1."""
    options = {"image_size": SIZE, "channels": channels, "widths": [8], "num_classes": len(classes)}
    torch.manual_seed(3)
    generator = MLPGenerator(**options)
    with torch.no_grad():
        generator.layers[-2].weight.mul_(20)
    config = {"_target_": "medsynth.generator.mlp.MLPGenerator", **options}
    save_generator(path, generator, config=config, card=card | {"class_names": list(classes)})
    return path


@pytest.fixture
def generate(monkeypatch, capsys, tmp_path):
    """Run the command on a fresh generator: (folder of the images, what they must be: float64 (N, C, H, W))."""
    monkeypatch.chdir(tmp_path)
    folders = map("out{}".format, itertools.count())

    def command(*arguments, seed=0, labels=None, **options):
        source, out = trained(tmp_path / "generator.safetensors", **options), tmp_path / next(folders)
        arguments = (f"run={source}", f"out={out}", f"num_samples={COUNT}", f"seed={seed}", *arguments)
        code, _, err = run(monkeypatch, capsys, *arguments, command="generate")
        assert code == 0, err
        generator, card = read_generator(source)
        with torch.inference_mode():
            z = noise(COUNT, generator.latent_dim, seed=counter_seed("generate", seed))
            images = generator(z, labels).double().numpy()
        low, high = card["intensity"]["low"], card["intensity"]["high"]
        return out, low + (images + 1) / 2 * (high - low)

    return command


def test_a_loaded_generator_samples_the_images_of_the_command(generate, tmp_path):
    out, expected = generate("label=1", "format=npy", classes=CLASSES, labels=torch.ones(COUNT, dtype=torch.int64))
    before = torch.random.get_rng_state()
    generator = load_generator(str(tmp_path))
    images = generator.sample(COUNT, label=CLASSES[1])
    assert torch.equal(torch.random.get_rng_state(), before), "PyTorch's random state is the caller's"
    assert images.dtype == torch.float32
    assert images.shape == (COUNT, 1, SIZE, SIZE)
    np.testing.assert_allclose(generator.to_physical(images).numpy(), np.load(out / "images.npy"), rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(generator.to_physical(images).numpy(), expected, rtol=1e-5, atol=1e-3)
    assert torch.equal(generator.sample(COUNT, label=1), images)
    torch.testing.assert_close(generator.sample(2, label=1, batch_size=1), images[:2])
    torch.testing.assert_close(generator.sample(5, batch_size=3), generator.sample(5))
    assert not torch.equal(generator.sample(COUNT, label=1, seed=1), images)
    assert not torch.equal(generator.sample(COUNT), images), "all classes in turn"
    assert (generator.class_names, generator.units) == (tuple(CLASSES), "HU")
    assert (generator.image_size, generator.channels) == (SIZE, 1)
    assert generator.card["modality"] == "CT"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"count": 0}, "count=0 must be 1 or more"),
        ({"count": 1, "label": "cat"}, "label=cat is unknown: choose healthy"),
        ({"count": 1, "label": 2}, "label=2 is unknown"),
    ],
)
def test_a_loaded_generator_refuses(tmp_path, arguments, says):
    generator = load_generator(trained(tmp_path / "a.safetensors", classes=CLASSES))
    with pytest.raises(InputError, match=says):
        generator.sample(**arguments)
    with pytest.raises(InputError, match="nowhere does not exist: give the folder of a run"):
        load_generator(tmp_path / "nowhere")


def of(folder):
    return sorted((folder / "images").iterdir())


def by_pillow(path, slope, intercept):
    pixels = np.asarray(Image.open(path)).astype(float)
    return (pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)) * slope + intercept


def by_pydicom(path, slope, intercept):
    dataset = pydicom.dcmread(path)
    if dataset.PhotometricInterpretation == "RGB":
        return dataset.pixel_array.transpose(2, 0, 1) * slope + intercept
    return apply_modality_lut(dataset.pixel_array, dataset)[None]


def by_nibabel(path, slope, intercept):
    values = nibabel.load(path).get_fdata()
    return np.moveaxis(values.reshape(*values.shape[:2], -1), (0, 1, 2), (2, 1, 0)) * slope + intercept


READ = {"png8": by_pillow, "png16": by_pillow, "dicom": by_pydicom, "nifti": by_nibabel}
LEVELS = {"png8": 255, "png16": 65535, "dicom": 65535}


def tolerance(format_name, expected, levels=None):
    """Half a step of what is stored; of float32, the rounding of its numbers."""
    levels = levels or LEVELS.get(format_name)
    spread = CARD["intensity"]["high"] - CARD["intensity"]["low"]
    return (0.5 + 1e-6) * spread / levels if levels else np.abs(expected).max() * 1e-6


@pytest.mark.parametrize(
    ("format_name", "channels"), [*((name, 1) for name in FORMATS), *((name, 3) for name in FORMATS if name != "png16")]
)
def test_values_come_back_in_physical_units(generate, format_name, channels):
    out, expected = generate(f"format={format_name}", channels=channels)
    stored = json.loads((out / "generate.json").read_text())["stored"]
    if format_name == "npy":
        images = np.load(out / "images.npy")
        assert images.dtype == np.float32
    else:
        images = np.stack([READ[format_name](path, stored["slope"], stored["intercept"]) for path in of(out)])
    assert images.shape == expected.shape == (COUNT, channels, SIZE, SIZE)
    error = np.abs(images - expected).max()
    assert error <= tolerance(format_name, expected, 255 if channels == 3 and format_name == "dicom" else None)
    assert np.ptp(expected) > 0.95 * (150.3 + 1350), "the test must see the whole range"
    ends = [stored[end] * stored["slope"] + stored["intercept"] for end in ("low", "high")]
    np.testing.assert_allclose(ends, [-1350, 150.3], rtol=1e-9)
    assert not list(out.parent.glob("*.tmp"))


@pytest.mark.parametrize(
    ("format_name", "reader", "options"),
    [
        ("png8", "PILReader", {"reverse_indexing": False}),
        ("png16", "PILReader", {"reverse_indexing": False}),
        ("nifti", "NibabelReader", {}),
        ("dicom", "PydicomReader", {}),
    ],
)
def test_monai_reads_the_same(generate, format_name, reader, options):
    out, expected = generate(f"format={format_name}")
    record = json.loads((out / "generate.json").read_text())
    load = LoadImage(reader=reader, image_only=True, **options)
    for path, image in zip(of(out), expected, strict=True):
        values = load(path).numpy().astype(float).squeeze()
        if reader == "PILReader":
            values = values * record["stored"]["slope"] + record["stored"]["intercept"]
        else:
            values = values.T  # MONAI's first axis is the columns there
        # MONAI reads float32: 1e-3 HU of it beside the step of what is stored
        assert np.abs(values - image[0]).max() <= tolerance(format_name, expected) + 1e-3


def test_gdcm_reads_the_same_with_the_spacing(generate):
    """GDCM stands behind ITK and many viewers, and looks for a secondary capture's spacing where others do not."""
    out, expected = generate("format=dicom")
    for path, values in zip(of(out), expected, strict=True):
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        image = reader.GetImage()
        stored = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), "<u2").reshape(SIZE, SIZE)
        physical = stored * image.GetSlope() + image.GetIntercept()
        assert np.abs(physical - values[0]).max() <= tolerance("dicom", values)
        np.testing.assert_allclose([image.GetSpacing(1), image.GetSpacing(0)], CARD["spacing"])


@pytest.fixture
def strict():
    """pydicom raises where it else warns: values that no DICOM file may hold."""
    before = pydicom.config.settings.writing_validation_mode, pydicom.config.settings.reading_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.RAISE
    pydicom.config.settings.reading_validation_mode = pydicom.config.RAISE
    yield
    pydicom.config.settings.writing_validation_mode, pydicom.config.settings.reading_validation_mode = before


def types(dataset):
    """Keyword -> the types (1, 1C, 2, 2C, 3) that the modules of the file's IOD give it."""
    iod = standard.get_sop_class_iod_map()[dataset.SOPClassUID]
    found = {}
    for module in standard.get_iod_module_map()[iod]:
        for attribute in standard.get_module_attribute_map()[module["key"]]:
            if not attribute["path"]:
                mandatory = module["usage"] == "M"
                found.setdefault(attribute["keyword"], set()).add((attribute["type"], mandatory))
    return found


@pytest.mark.parametrize("spacing", [CARD["spacing"], None])
@pytest.mark.parametrize("channels", [1, 3])
def test_dicom_keeps_to_the_standards_tables(generate, strict, channels, spacing):
    """PS3.3 A.8.1 as highdicom has its tables: what must be there is there, and nothing that has no place."""
    out, _ = generate("format=dicom", channels=channels, card=CARD | {"spacing": spacing})
    for path in of(out):
        dataset = pydicom.dcmread(path)
        for element in dataset:  # decodes and validates each of them
            assert element.value is not None or element.is_empty
        known = types(dataset)
        assert {element.keyword for element in dataset} <= set(known)
        for keyword, kinds in known.items():
            if ("1", True) in kinds:
                assert dataset.get(keyword) not in (None, ""), keyword
            if ("2", True) in kinds:
                assert keyword in dataset, keyword
        conditional = {"PatientOrientation", "Laterality", "ContentDate", "PixelData", "SpecificCharacterSet"}
        conditional |= {"PlanarConfiguration"} if channels == 3 else {"RescaleSlope", "RescaleIntercept", "RescaleType"}
        assert all(keyword in dataset for keyword in conditional)
        assert ("RescaleSlope" in dataset) == ("WindowCenter" in dataset) == (channels == 1)
        assert ("PixelSpacing" in dataset) == ("NominalScannedPixelSpacing" in dataset) == (spacing is not None)


def test_dicom_file_says_what_it_is(generate, strict):
    labels = torch.arange(COUNT) % 2
    out, _ = generate("format=dicom", classes=CLASSES, labels=labels, seed=7)
    raw = of(out)[1].read_bytes()
    assert raw[128:132] == b"DICM"
    dataset = pydicom.dcmread(of(out)[1])
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == SecondaryCaptureImageStorage
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert (dataset.SyntheticData, dataset.ConversionType, dataset.ImageType[0]) == ("YES", "SYN", "DERIVED")
    assert (dataset.Modality, dataset.RescaleType) == ("CT", "HU")
    assert str(dataset.PatientName).startswith("SYNTHETIC")
    assert "Not an examination of a patient" in dataset.DerivationDescription
    assert dataset.SeriesDescription == "Synthetic, class Läsion_groß"
    record = json.loads((out / "generate.json").read_text())
    assert f"generator {record['generator_sha256'][:16]}, seed 7" in dataset.ImageComments
    assert float(dataset.RescaleSlope) == record["stored"]["slope"], "as written, not as worked out"
    assert float(dataset.RescaleIntercept) == record["stored"]["intercept"]
    assert str(out.parent).encode() not in raw, "no path of the user's"
    np.testing.assert_allclose(dataset.PixelSpacing, [0.7, 1 / 3])
    assert all(len(str(value)) <= 16 for value in (*dataset.PixelSpacing, dataset.RescaleSlope, dataset.WindowWidth))


def test_dicom_study_series_and_instances(generate):
    labels = torch.arange(COUNT) % 2
    uids = []
    for _ in range(2):
        out, _ = generate("format=dicom", classes=CLASSES, labels=labels)
        files = [pydicom.dcmread(path) for path in of(out)]
        assert len({file.StudyInstanceUID for file in files}) == 1
        assert len({file.SeriesInstanceUID for file in files}) == 2
        assert [file.SeriesNumber for file in files] == [1, 2, 1, 2, 1]
        assert len({file.InstanceNumber for file in files}) == COUNT
        uids += [files[0].StudyInstanceUID, *{file.SeriesInstanceUID for file in files}]
        uids += [file.SOPInstanceUID for file in files]
    assert len(set(uids)) == len(uids) == 2 * (1 + 2 + COUNT)
    assert all(uid.is_valid for uid in uids)


@pytest.mark.parametrize("intensity", [CARD["intensity"], {"low": 0.0, "high": 1.0, "unit": "stored value"}])
def test_dicom_window_shows_black_at_low_and_white_at_high(generate, intensity):
    out, expected = generate("format=dicom", card=CARD | {"intensity": intensity, "modality": ""})
    shown, wanted = [], (expected - intensity["low"]) / (intensity["high"] - intensity["low"])
    for path in of(out):
        dataset = pydicom.dcmread(path)
        shown.append(apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset))
        assert (dataset.Modality, dataset.RescaleType) == ("OT", "HU" if intensity["unit"] == "HU" else "US")
    shown = np.stack(shown)
    black, white = -1350, -1350 + 65535 * dataset.RescaleSlope  # pydicom's output range: that of the rescaled type
    if intensity["unit"] == "HU":
        np.testing.assert_allclose((shown - black) / (white - black), wanted[:, 0], atol=1e-4)
    else:
        np.testing.assert_allclose(shown, wanted[:, 0], atol=1e-4)


def test_nifti_lies_as_an_axial_slice_in_radiological_convention(generate):
    out, expected = generate("format=nifti")
    volume = nibabel.load(of(out)[0])
    assert volume.shape == (SIZE, SIZE, 1)
    assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")
    assert volume.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(volume.header.get_zooms(), [1 / 3, 0.7, 1], rtol=1e-6)
    np.testing.assert_allclose(volume.get_qform(), volume.get_sform(), atol=1e-6)
    assert b"synthetic" in volume.header["descrip"].item()
    canonical = nibabel.as_closest_canonical(volume).get_fdata()[:, :, 0]
    # x to the patient's right, y to the front: the image's first row is the front, its first column the right
    np.testing.assert_allclose(canonical[::-1, ::-1].T, expected[0, 0], rtol=1e-6)
    out, _ = generate("format=nifti", card=CARD | {"spacing": None})
    volume = nibabel.load(of(out)[0])
    assert volume.header.get_zooms() == (1, 1, 1)
    assert volume.header.get_xyzt_units()[0] == "unknown"


@pytest.mark.parametrize("format_name", ["dicom", "npy"])
def test_batch_size_does_not_matter(generate, format_name):
    read = np.load if format_name == "npy" else (lambda path: pydicom.dcmread(path).pixel_array.astype(float))
    several = []
    for batch_size in (1, 64):
        out, _ = generate(f"format={format_name}", f"batch_size={batch_size}")
        several.append(np.stack([read(path) for path in ([out / "images.npy"] if format_name == "npy" else of(out))]))
    # libraries add up in another order, so that the last bits of float32 differ: less than a step of 16 bits
    assert np.abs(several[1] - several[0]).max() <= (1 if format_name == "dicom" else 1e-2)
    out, _ = generate(f"format={format_name}", seed=1)
    paths = [out / "images.npy"] if format_name == "npy" else of(out)
    assert np.abs(np.stack([read(path) for path in paths]) - several[0]).max() > 100


@pytest.mark.parametrize("format_name", FORMATS)
def test_labels_are_written(generate, format_name):
    labels = torch.arange(COUNT) % 2
    out, expected = generate(f"format={format_name}", classes=CLASSES, labels=labels)
    if format_name == "npy":
        assert np.load(out / "labels.npy").tolist() == labels.tolist()
        np.testing.assert_allclose(np.load(out / "images.npy"), expected, rtol=1e-5)
        return
    with (out / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [CLASSES[label] for label in labels]
    assert [out / row["path"] for row in rows] == of(out)
    if format_name == "png8":
        found = Csv(str(out)).scan()
        assert [(item.name, item.class_name) for item in found.records] == [(row["path"], row["label"]) for row in rows]


@pytest.mark.parametrize("names", [["1", "2", "3", "4"], ["4", "3", "2", "1"], ["true", "false", "1", "0"]])
def test_a_label_is_a_name_before_it_is_an_index(tmp_path, names):
    generator = load_generator(trained(tmp_path / "a.safetensors", classes=names))
    for number, name in enumerate(names):
        for label in (name, int(name)) if name.isdecimal() else (name, name == "true"):
            assert generator.labels(label, 2).tolist() == [number, number], label
    assert generator.labels(3, 1).tolist() == [names.index("3") if "3" in names else 3]
    indices = [str(index) for index in range(len(names)) if str(index) not in names]
    with pytest.raises(InputError, match=f"choose {', '.join(names)}, or as an index {', '.join(indices)}"):
        generator.labels(9, 1)


def test_one_label_and_none(generate):
    out, _ = generate("format=npy", "label=healthy", classes=CLASSES, labels=torch.zeros(COUNT, dtype=torch.int64))
    assert np.load(out / "labels.npy").tolist() == [0] * COUNT
    out, _ = generate("format=npy", "label=1", classes=["1", "2"], labels=torch.zeros(COUNT, dtype=torch.int64))
    assert json.loads((out / "generate.json").read_text())["class_name"] == "1"
    for format_name in ("npy", "png8"):
        out, _ = generate(f"format={format_name}")
        assert not [*out.glob("labels.*"), *out.glob("table.*")]


def test_record_and_contact_sheet(generate):
    for format_name in ("png8", "dicom", "npy"):
        out, _ = generate(f"format={format_name}", seed=2)
        record = json.loads((out / "generate.json").read_text())
        assert (record["format"], record["seed"], record["num_samples"]) == (format_name, 2, COUNT)
        assert record["intensity"] == CARD["intensity"]
        assert record["spacing"] == CARD["spacing"]
        assert record["card"] == CARD
        with Image.open(out / "contact_sheet.png") as sheet:
            assert sheet.size == (COUNT * (SIZE + 1) + 1, SIZE + 2)


def test_cards_of_older_runs(generate):
    old = {key: CARD[key] for key in ("class_names", "intensity")}
    for format_name in ("png8", "nifti", "dicom"):
        out, _ = generate(f"format={format_name}", card=old)
        assert json.loads((out / "generate.json").read_text())["spacing"] is None


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (["format=jpeg"], {}, "format=jpeg is unknown: choose png8, png16, nifti, dicom, npy."),
        (["format=8"], {}, "choose png8"),
        (
            ["format=png16"],
            {"channels": 3},
            "gray images only, but the generator makes 3 channels: choose png8 or npy",
        ),
        (["format=dicom"], {"channels": 2}, "gray or RGB images, but the generator makes 2 channels: choose npy"),
        (["format=png8"], {"channels": 2}, "gray or RGB images, but the generator makes 2 channels: choose npy"),
        (["bits=16"], {}, "There is no option bits"),
    ],
)
def test_refuses(monkeypatch, capsys, tmp_path, arguments, options, words):
    monkeypatch.chdir(tmp_path)
    source = trained(tmp_path / "generator.safetensors", **options)
    code, _, err = run(monkeypatch, capsys, f"run={source}", "out=x", *arguments, command="generate")
    assert code == 1
    assert words in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["generator.safetensors"]


def test_refuses_what_diverged(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = trained(tmp_path / "generator.safetensors")
    generator, card = read_generator(path)
    with torch.no_grad():
        generator.layers[-2].bias[0] = float("nan")
    config = {"_target_": "medsynth.generator.mlp.MLPGenerator", "image_size": SIZE, "channels": 1, "widths": [8]}
    save_generator(path, generator, config=config, card=card)
    code, _, err = run(monkeypatch, capsys, f"run={path}", "out=x", command="generate")
    assert code == 1
    assert "not finite numbers" in err
    assert [file.name for file in tmp_path.iterdir()] == ["generator.safetensors"]


def test_complete_or_absent(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    source, write = trained(tmp_path / "generator.safetensors"), png.PngWriter.write

    def full(self, path, number, image, label):
        if number == 3:
            raise OSError(28, "No space left on device", str(path))
        write(self, path, number, image, label)

    monkeypatch.setattr(png.PngWriter, "write", full)
    code, _, err = run(monkeypatch, capsys, f"run={source}", "out=x", command="generate")
    assert code == 1
    assert "No space left" in err
    assert [path.name for path in tmp_path.iterdir()] == ["generator.safetensors"]


def test_all_formats_are_tested():
    assert set(WRITERS) == set(FORMATS)
