"""Files damaged at random: whatever is wrong with them, only the documented error may come out."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nifti_files import save, scan

from brats_seg.core.errors import InputError
from brats_seg.core.labels import LabelSchema
from brats_seg.files.nifti import read_forms, read_image, read_label_result
from brats_seg.files.sidecar import read_schema_sidecar

_FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("fuzz")
    return {name: save(folder / name, scan()).read_bytes() for name in ("a.nii", "a.nii.gz")}


def survives(path: Path) -> None:
    """Read as everything; a result must be valid, a refusal must be an InputError with a message."""
    for reader in (read_image, read_label_result, read_forms):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                result = reader(path)
            except InputError as error:
                assert path.name in str(error) and "Traceback" not in str(error)
                continue
        if reader is read_image:
            assert np.isfinite(result.volume.data).all() and np.isfinite(result.volume.affine).all()


@_FUZZ
@given(st.data(), st.sampled_from(["a.nii", "a.nii.gz"]))
def test_flipped_bits(tmp_path: Path, originals: dict[str, bytes], data: st.DataObject, name: str) -> None:
    raw = bytearray(originals[name])
    # Mostly in the header, where a flip hurts most.
    end = 352 if name == "a.nii" else len(raw)
    for place in data.draw(st.lists(st.integers(0, end * 8 - 1), min_size=1, max_size=12)):
        raw[place // 8] ^= 1 << (place % 8)
    path = tmp_path / name
    path.write_bytes(bytes(raw))
    survives(path)


@_FUZZ
@given(st.data(), st.sampled_from(["a.nii", "a.nii.gz"]))
def test_truncated(tmp_path: Path, originals: dict[str, bytes], data: st.DataObject, name: str) -> None:
    raw = originals[name]
    path = tmp_path / name
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(InputError):
        read_image(path)
    survives(path)


@_FUZZ
@given(st.binary(max_size=800), st.booleans())
def test_any_bytes(tmp_path: Path, content: bytes, marked: bool) -> None:
    path = tmp_path / "a.nii"
    raw = bytearray(content.ljust(400, b"\xa5"))
    if marked:
        raw[:4], raw[344:348] = (348).to_bytes(4, "little"), b"n+1\0"
    path.write_bytes(bytes(raw))
    survives(path)


@pytest.mark.slow
@_FUZZ
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode), st.just(b"[" * 100_000)))
def test_any_sidecar(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a_dseg.json").write_bytes(content)
    try:
        schema = read_schema_sidecar(tmp_path / "a_dseg.nii.gz")
    except InputError as error:
        assert "a_dseg.json" in str(error)
    else:
        assert schema is None or isinstance(schema, LabelSchema)
