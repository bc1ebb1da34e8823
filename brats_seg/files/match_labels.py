"""Pairing two sets of label maps, predictions and references, by the ids their file names and folders hold.

Understood are results of this program (``<id>/<id>_dseg.nii.gz``), BraTS study folders (``<id>_seg``, ``<id>-seg``
beside the scans), BIDS names, and folders of plain ``<id>.nii.gz``; instead of NIfTI also Slicer's ``.seg.nrrd`` and
DICOM segmentations. No image is read; where ids differ, results of this program are told by the checksums of the scans
they were made of.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.core.study import REFERENCE_PREFERENCE
from brats_seg.core.words import counted, some
from brats_seg.files.dicom_codes import SEGMENTATIONS
from brats_seg.files.dicom_sources import class_of
from brats_seg.files.file_bytes import file_sha256
from brats_seg.files.names import Role, is_nifti, read_name, read_names, stem
from brats_seg.files.output import read_run
from brats_seg.files.study_id import study_folder

LABEL_ENDING = re.compile(
    r"(?:^|[_\-. ]+)(?:dseg|segm?|segs|segmentations?|labels?|labelmap|(?:tumou?r|lesion)?[_\- ]?mask|preds?|prediction"
    r"|gt|groundtruth|gtv|glistrboost(?:[_\- ]manuallycorrected)?)$",
    re.IGNORECASE,
)
"""How names of label maps end."""
_NO_TUMOUR = re.compile(r"brain|probseg|softmax|skull|tissue", re.IGNORECASE)
_SEG, _SAME_AS_SEG = "_seg.dcm", ("_labelmap.dcm", "_lesions.dcm")
"""What this program calls its segmentations: of the label map, and others with nothing else in them."""
_MAX_DEPTH = 5
"""Deepest file below a set's folder: ``sub-X/ses-Y/anat/FILE``, and one folder above them."""
_SHOWN = 8


@dataclass(frozen=True)
class LabelFile:
    """One label map of a set.

    Attributes:
        id: of the study, from the file's name (BIDS: ``sub-X_ses-Y``), or from its folder where that says nothing.
        folder_id: name of its folder where it is the only label map there, else empty; a second chance to match.
    """

    id: str
    path: Path
    folder_id: str = ""


@dataclass(frozen=True)
class LabelPair:
    """A prediction and the reference it is held against.

    Attributes:
        id: the reference's.
        why: what else than equal ids says that they belong together, in words; empty where ids do.
    """

    id: str
    prediction: Path
    reference: Path
    why: str = ""


@dataclass(frozen=True)
class LabelMatches:
    """What two sets have in common.

    Attributes:
        pairs: in the order of the references.
        only_predictions: ids without a reference.
        only_references: ids without a prediction.
    """

    pairs: tuple[LabelPair, ...]
    only_predictions: tuple[str, ...]
    only_references: tuple[str, ...]


def match_places(predictions: Path, references: Path) -> LabelMatches:
    """Pair the label maps of two folders, or of single files.

    Two single files belong together whatever they are called. Where one side is a single file, only its partner is
    asked for, and the other files of the other side are no concern.

    Raises:
        InputError: if a place does not exist, holds no label map or two of one id, or nothing fits together.
    """
    found, truth = find_label_files(predictions), find_label_files(references)
    if predictions.is_file() and references.is_file():
        return LabelMatches((LabelPair(truth[0].id, found[0].path, truth[0].path),), (), ())
    matches = _match_scans(match_label_files(found, truth), found, truth)
    if not matches.pairs:
        called = [some((file.id for file in files), _SHOWN) for files in (found, truth)]
        raise InputError(
            f"no prediction belongs to a reference: predictions are called {called[0]}, references {called[1]}. Name "
            "both by the same study ids, as ID_seg.nii.gz or ID/ID_dseg.nii.gz."
        )
    if predictions.is_file():
        return replace(matches, only_references=())
    if references.is_file():
        return replace(matches, only_predictions=())
    return matches


def _match_scans(
    matches: LabelMatches, predictions: Sequence[LabelFile], references: Sequence[LabelFile]
) -> LabelMatches:
    """Pair what is left over where a result's record holds the checksums of the scans beside a reference."""
    used: dict[str, list[LabelFile]] = {}
    for file in predictions:
        inputs = (read_run(file.path.parent) or {}).get("inputs") if file.id in matches.only_predictions else None
        for entry in inputs.values() if isinstance(inputs, dict) else ():
            if isinstance(entry, dict) and isinstance(entry.get("sha256"), str):
                used.setdefault(entry["sha256"], []).append(file)
    pairs: list[LabelPair] = []
    for file in references if used else ():
        if file.id in matches.only_references:
            scans = (path for path in sorted(file.path.parent.iterdir()) if path != file.path and is_nifti(path.name))
            made = {other.id: other for scan in scans for other in used.get(file_sha256(scan), ())}
            if len(made) == 1:
                (other,) = made.values()
                why = f"prediction {other.id} was made of the scans beside the reference"
                pairs.append(LabelPair(file.id, other.path, file.path, why))
    if not pairs:
        return matches
    taken, found = {pair.prediction for pair in pairs}, {pair.id for pair in pairs}
    left = {file.id for file in predictions if file.path in taken}
    order = [file.id for file in references]
    return LabelMatches(
        pairs=tuple(sorted([*matches.pairs, *pairs], key=lambda pair: order.index(pair.id))),
        only_predictions=tuple(name for name in matches.only_predictions if name not in left),
        only_references=tuple(name for name in matches.only_references if name not in found),
    )


def find_label_files(place: Path) -> tuple[LabelFile, ...]:
    """Every label map in a folder, or the one file named; sorted by id.

    Raises:
        InputError: if there is none, or two have the same id.
    """
    if place.is_file():
        return (LabelFile(label_id(place), place),)
    if not place.is_dir():
        raise InputError(f"there is no file or folder {place}. Check the spelling.")
    by_folder: dict[Path, list[str]] = {}
    for path in sorted(place.rglob("*")):
        inside = path.relative_to(place).parts
        if len(inside) <= _MAX_DEPTH and not any(part.startswith(".") for part in inside) and path.is_file():
            by_folder.setdefault(path.parent, []).append(path.name)
    files: list[LabelFile] = []
    for folder, names in by_folder.items():
        chosen = label_names(possible_names(folder, names))
        folder_id = study_folder(folder).name if len(chosen) == 1 and folder != place else ""
        files += [LabelFile(label_id(folder / name), folder / name, folder_id) for name in chosen]
    if not files:
        seen = counted(sum(is_nifti(name) for names in by_folder.values() for name in names), "NIfTI file")
        raise InputError(
            f"{place} holds no label map ({seen} seen). Label maps are called ID_seg.nii.gz, ID-seg.nii.gz, "
            "ID_dseg.nii.gz, or ID.nii.gz in a folder without scans, or are ID.seg.nrrd or DICOM segmentations."
        )
    _refuse_copies(files, place)
    return tuple(sorted(_told_apart(files), key=lambda file: file.id))


def _refuse_copies(files: Sequence[LabelFile], place: Path) -> None:
    """Refuse a folder whose label maps lie in one of its folders again, as nnU-Net's ``postprocessed`` does."""
    here = {file.path.name for file in files if file.path.parent == place}
    for file in files:
        if file.path.parent != place and file.path.name in here:
            again = file.path.parent.relative_to(place)
            raise InputError(
                f"{place.name} holds {file.path.name} twice: in itself and in {again}. Which is meant? Pass "
                f"{place / again}, or move {again} elsewhere."
            )


def possible_names(folder: Path, names: Iterable[str]) -> list[str]:
    """The names of one folder that may be label maps or scans: NIfTI, and what else holds segments.

    Of a result of this program the other forms of its label map are left out, as long as nobody changed them.
    """
    listed = list(names)
    nifti = [name for name in listed if is_nifti(name)]
    others = [name for name in listed if not is_nifti(name) and _holds_segments(folder / name)]
    begun = {name.removesuffix(_SEG) for name in others if name.endswith(_SEG)}
    kept = [n for n in others if not any(n.endswith(end) and n.removesuffix(end) in begun for end in _SAME_AS_SEG)]
    outputs = (read_run(folder) or {}).get("outputs") if kept and nifti else None
    written = outputs if isinstance(outputs, dict) else {}
    return nifti + [name for name in kept if name not in written or file_sha256(folder / name) != written[name]]


def _holds_segments(path: Path) -> bool:
    """Whether a file is a segmentation by its format: Slicer's, NRRD that is called so, or DICOM."""
    name = path.name.lower()
    if name.endswith(".nrrd"):
        return name.endswith(".seg.nrrd") or bool(LABEL_ENDING.search(stem(name)))
    return class_of(path) in SEGMENTATIONS


def label_names(names: Sequence[str]) -> list[str]:
    """The label maps among :func:`possible_names` of one folder.

    Names that end like a label map, and all that are no NIfTI; without any, every name that says nothing else, unless
    scans lie there too.
    """
    readings = read_names(names)
    possible = [name for name in names if not _NO_TUMOUR.search(stem(name))]
    ending = [name for name in possible if LABEL_ENDING.search(stem(name)) or not is_nifti(name)]
    if ending or any(reading.role is Role.IMAGE for reading in readings.values()):
        return ending
    return [name for name in possible if readings[name].role in (Role.UNCLEAR, Role.LABELS)]


def match_label_files(predictions: Sequence[LabelFile], references: Sequence[LabelFile]) -> LabelMatches:
    """Pair by id; what is left over then by the name of the folder, on either side or both."""
    left = {file.id: file for file in predictions}
    partners: dict[str, LabelFile] = {}
    why: dict[str, str] = {}
    for file in references:
        if file.id in left:
            partners[file.id] = left.pop(file.id)
    by_folder = _unique((file.folder_id, file) for file in left.values())
    for file in references:
        if file.id in partners:
            continue
        partner = by_folder.get(file.id) or left.get(file.folder_id) or by_folder.get(file.folder_id)
        if partner is not None and partner.id in left:
            partners[file.id] = left.pop(partner.id)
            why[file.id] = f"prediction {partner.id} and reference {file.id} belong together by their folders alone"
    return LabelMatches(
        pairs=tuple(
            LabelPair(f.id, partners[f.id].path, f.path, why.get(f.id, "")) for f in references if f.id in partners
        ),
        only_predictions=tuple(left),
        only_references=tuple(f.id for f in references if f.id not in partners),
    )


def probabilities_beside(prediction: Path) -> Path | None:
    """``<id>_probseg.nii.gz`` beside ``<id>_dseg.nii.gz`` (or beside ``<id>.nii.gz``), if it is there.

    None of other formats, which may end where the segments do.
    """
    if not is_nifti(prediction.name):
        return None
    base = LABEL_ENDING.sub("", stem(prediction.name))
    for ending in (".nii.gz", ".nii"):
        path = prediction.with_name(f"{base}_probseg{ending}")
        if path.is_file():
            return path
    return None


def scan_beside(reference: Path) -> Path | None:
    """A scan of the same study in the reference's folder, as background of pictures: T1CE, else FLAIR, T2, T1."""
    names = [path.name for path in sorted(reference.parent.iterdir()) if is_nifti(path.name)]
    readings = read_names(names)
    for sequence in REFERENCE_PREFERENCE:
        fitting = [name for name, reading in readings.items() if reading.sequence is sequence]
        if len(fitting) == 1:
            return reference.with_name(fitting[0])
    return None


def label_id(path: Path) -> str:
    """The id of the study a label map is of: its name without the ending, or its folder's where that is all."""
    text = stem(path.name)
    if text.lower().startswith("sub-") and "_" in text:
        return read_name(path.name).prefix
    return LABEL_ENDING.sub("", text) or study_folder(path.parent).name


def _told_apart(files: list[LabelFile]) -> list[LabelFile]:
    """Ids such as ``visit1`` that repeat get the name of the folder above before them.

    Where that tells nothing apart, as with the ``1-1`` of DICOM archives, their own folders name them.
    """
    told = files
    for name in ("{above}_{id}", "{own}", "{above}_{own}"):
        counts = Counter(file.id for file in told)
        told = [file if counts[file.id] == 1 else replace(file, id=_renamed(file, name)) for file in told]
    seen: dict[str, LabelFile] = {}
    for before, file in zip(files, told, strict=True):
        other = seen.setdefault(file.id, file)
        if other is not file:
            raise InputError(
                f"two label maps would both be study {before.id}: {other.path} and {file.path}. "
                "Keep one of them, or pass a folder that holds one for each study."
            )
    return told


def _renamed(file: LabelFile, name: str) -> str:
    if not file.folder_id and "{own}" in name:
        return file.id
    return name.format(above=file.path.resolve().parents[1].name, id=file.id, own=file.folder_id)


def _unique(entries: Iterable[tuple[str, LabelFile]]) -> dict[str, LabelFile]:
    pairs = [(key, file) for key, file in entries if key]
    counts = Counter(key for key, _ in pairs)
    return {key: file for key, file in pairs if counts[key] == 1}
