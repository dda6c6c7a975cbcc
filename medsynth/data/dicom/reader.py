"""The reader of DICOM files: what is there, what of it is taken, in which order, and the pictures of one file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tqdm import tqdm

from medsynth.contracts import InputError
from medsynth.data.dicom.elements import damage, parse, quiet
from medsynth.data.dicom.headers import NOTHING_WRONG, Header, read_header
from medsynth.data.dicom.picture import pictures
from medsynth.data.dicom.pixels import plugin
from medsynth.data.dicom.series import by_series
from medsynth.data.reading import Found, Item, Picture, Unreadable
from medsynth.data.tree import open_tree

NOT_TAKEN = "slices (data.reader.every, data.reader.skip_ends)"
LABELS = ("folder", "modality", "body_part", "series_description", "laterality")


class Dicom:
    """A reader of DICOM files, told by their content; see medsynth.data.reading.

    An item is a file, its pictures are its frames. Items come by patient, study and series, slices along their normal.
    Values are those of the modality transformation: Hounsfield units for CT, the unit of a PET image, stored values
    where none is specified. ``values.measured`` says what becomes of MONOCHROME1 and of padding. A patient is the
    PatientID with its issuer; where there is none, the study stands for the patient.

    Args:
        root: the folder or zip archive.
        modality: codes such as CT to read; None: all, which must be one.
        series: SeriesInstanceUIDs to read; None: all.
        description: regular expression that is searched in SeriesDescription, in any case; None: all.
        scouts: read localizers, topograms and screen captures too, as ImageType says what they are.
        label: what the class of an image is: the ``folder`` below the root, its ``modality``, ``body_part``,
            ``series_description`` or ``laterality``, which then appear in messages and records; images without are
            left out. None: no labels.
        every: take each n-th slice of a series.
        skip_ends: slices that are left out at both ends of a series.

    Raises:
        InputError: an option has no such value, or ``root`` cannot be opened.
    """

    def __init__(
        self,
        root: str | None,
        *,
        modality: str | Sequence[str] | None = None,
        series: str | Sequence[str] | None = None,
        description: str | None = None,
        scouts: bool = False,
        label: str | None = None,
        every: int = 1,
        skip_ends: int = 0,
    ) -> None:
        if label is not None and label not in LABELS:
            raise InputError(f"data.reader.label={label} is not possible: null or {', '.join(LABELS)}.")
        if not isinstance(every, int) or every < 1:
            raise InputError(f"data.reader.every={every} is not possible: 1 takes all slices, 2 each second one.")
        if not isinstance(skip_ends, int) or skip_ends < 0:
            raise InputError(f"data.reader.skip_ends={skip_ends} is not possible: 0 slices or more.")
        self.modality = tuple(code.upper() for code in _several(modality))
        self.series = _several(series)
        self.description = description
        self.scouts = scouts
        self.label = label
        self.every = every
        self.skip_ends = skip_ends
        self._pattern = _compiled(description)
        self.tree = open_tree(root, example="data=dicom data.root=/path/to/dicom")

    def find(self) -> Found:
        """Look at the headers of all files; see ``reading.Reader``.

        Raises:
            InputError: nothing fits the options, images of several modalities or units are mixed, or a plugin that
                decodes them is not installed.
        """
        headers, left_out, damaged = [], Counter(), Counter()
        with quiet():
            for name in tqdm(self.tree.names, "Reading DICOM headers", disable=None):
                try:
                    headers.append(read_header(self.tree, name))
                except Unreadable as reason:
                    (left_out if str(reason).startswith(NOTHING_WRONG) else damaged)[str(reason)] += 1
            if not headers:
                raise InputError(f"data.root={self.tree.root} holds no DICOM image: {_listed(left_out + damaged)}.")
            fitting = self._fitting(headers, left_out)
            self._check_same(fitting)
            fitting = _decodable(fitting, left_out)
        sorted_out = by_series(fitting, every=self.every, skip_ends=self.skip_ends)
        if len(sorted_out) < len(fitting):
            left_out[NOT_TAKEN] += len(fitting) - len(sorted_out)
        chosen = self._labeled(sorted_out, left_out)
        items = [Item(header.name, class_name=name, patient=header.patient) for header, name in chosen]
        if not items:
            raise InputError(f"data.root={self.tree.root} holds no DICOM image to read: {_listed(left_out)}.")
        return Found(
            items,
            class_names=tuple(sorted({item.class_name for item in items} - {""})),
            unit=fitting[0].unit or "stored value",
            modality=fitting[0].modality if len({header.modality for header in fitting}) == 1 else "",
            left_out=left_out,
            damaged=damaged,
        )

    def read(self, item: Item) -> tuple[list[Picture], Counter[str]]:
        """The frames of a file; see ``reading.Reader``."""
        with quiet(), damage("it is damaged"):
            dataset, _ = parse(self.tree.read(item.name))
            result, left_out = pictures(dataset, every=self.every, skip_ends=self.skip_ends)
        return result, Counter({NOT_TAKEN: left_out} if left_out else {})

    def key(self) -> dict[str, object]:
        """See ``reading.Reader``."""
        return {name: value for name, value in vars(self).items() if name not in ("tree", "_pattern")}

    def _fitting(self, headers: list[Header], left_out: Counter[str]) -> list[Header]:
        """The images that the options ask for."""
        filters = {
            "another modality (data.reader.modality)": lambda header: (
                not self.modality or header.modality in self.modality
            ),
            "another series (data.reader.series)": lambda header: not self.series or header.series in self.series,
            "another description (data.reader.description)": lambda header: (
                self._pattern is None or self._pattern.search(header.series_description) is not None
            ),
            "a scout or screen capture (data.reader.scouts)": lambda header: self.scouts or not header.scout,
        }
        fitting = headers
        for reason, fits in filters.items():
            kept = [header for header in fitting if fits(header)]
            if len(kept) < len(fitting):
                left_out[reason] += len(fitting) - len(kept)
            fitting = kept
        if not fitting:
            raise InputError(
                f"data.root={self.tree.root} holds no DICOM image that fits the options, but {_listed(left_out)}; "
                f"its modalities are {_listed(Counter(header.modality or 'unknown' for header in headers))}."
            )
        return fitting

    def _check_same(self, headers: list[Header]) -> None:
        """One modality, unless several are asked for, and one unit."""
        modalities = Counter(header.modality or "unknown" for header in headers)
        if len(modalities) > 1 and not self.modality:
            first = modalities.most_common(1)[0][0]
            raise InputError(
                f"data.root={self.tree.root} holds images of several modalities ({_listed(modalities)}): "
                f"choose, for example by data.reader.modality={first}."
            )
        units = Counter(header.unit or "no unit" for header in headers)
        if len(units) > 1:
            raise InputError(
                f"data.root={self.tree.root} holds images in several units ({_listed(units)}): choose by "
                f"data.reader.modality, data.reader.series or data.reader.description."
            )

    def _labeled(self, headers: list[Header], left_out: Counter[str]) -> list[tuple[Header, str]]:
        """The images with their class names; without those that have none though they should."""
        if self.label is None:
            return [(header, "") for header in headers]
        labeled = [(header, _class_name(header, self.label)) for header in headers]
        missing = sum(not name for _, name in labeled)
        if missing:
            left_out[f"without a {self.label.replace('_', ' ')} (data.reader.label)"] += missing
        return [(header, name) for header, name in labeled if name]


def _decodable(headers: list[Header], left_out: Counter[str]) -> list[Header]:
    """Without those that no decoder can read. Raises InputError: a decoder is not installed."""
    result = []
    for header in headers:
        try:
            plugin(header.syntax, samples=header.samples, bits=header.bits_stored)
            result.append(header)
        except Unreadable as reason:
            left_out[str(reason)] += 1
    return result


def _class_name(header: Header, label: str) -> str:
    if label == "folder":
        return header.name.partition("/")[0] if "/" in header.name else ""
    return getattr(header, label)


def _several(value: str | Iterable[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(map(str, value or ()))


def _compiled(description: str | None) -> re.Pattern[str] | None:
    try:
        return None if description is None else re.compile(description, re.IGNORECASE)
    except re.error as error:
        raise InputError(
            f"data.reader.description={description} is no regular expression ({error}): 'chest|lung' finds either word."
        ) from None


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.most_common())
