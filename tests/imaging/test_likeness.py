"""The same head is known again, whatever it is called and however it is stored; another is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.files.find import find_study
from brats_seg.files.load import load_study
from brats_seg.imaging.likeness import (
    FINGERPRINT_BITS,
    SIGNATURE_SIDE,
    fingerprint,
    fingerprints,
    likeness,
    same_head,
)
from brats_seg.models.card import find_model
from brats_seg.segment.prepare import prepare


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=SIGNATURE_SIDE**3).astype(np.float32)
    return vector / np.linalg.norm(vector)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), correlation=st.floats(-0.9, 1.0))
def test_fingerprints_tell_the_correlation_of_what_they_are_of(seed: int, correlation: float) -> None:
    one, other = unit(seed), unit(seed + 5000)
    other -= (one @ other) * one
    other /= np.linalg.norm(other)
    mixed = correlation * one + np.sqrt(1 - correlation**2) * other
    found = likeness({"t1": fingerprint(one)}, {"t1": fingerprint(mixed.astype(np.float32))})
    spread = np.pi * np.sqrt(0.25 / FINGERPRINT_BITS)  # of the share of differing bits, as an angle
    assert abs(np.arccos(np.clip(found, -1, 1)) - np.arccos(correlation)) < 5 * spread


def test_fingerprints_stay_what_they_are() -> None:
    """They stand in cards, so no library and no change here may make others."""
    ramp = np.linspace(-1, 1, SIGNATURE_SIDE**3, dtype=np.float32)
    assert fingerprint(ramp) == KNOWN
    assert len(bytes.fromhex(fingerprint(ramp))) * 8 == FINGERPRINT_BITS


KNOWN = "ba988b9035213e3486a882962807100aa6ce6d31614fc5b4c72e9cb05f371ab6"


def test_nothing_in_common_is_not_alike() -> None:
    mark = {"t1": fingerprint(unit(1))}
    assert likeness(mark, {"t2": mark["t1"]}) == 0
    assert same_head(mark, {}) == ""
    assert same_head({}, {"a": mark}) == ""
    assert same_head(mark, {"a": {"t1": fingerprint(unit(2))}, "b": mark}) == "b"
    empty = np.zeros((4, 8, 8, 8), np.float32)
    assert fingerprints(empty, np.zeros((8, 8, 8), bool)) == {}
    assert fingerprints(empty, np.ones((8, 8, 8), bool)) == {}


STUDIES = Path(__file__).resolve().parents[3] / "shared" / "data" / "studies"


@pytest.mark.slow
def test_a_study_the_shipped_model_was_trained_on_is_known_by_its_scans() -> None:
    """By all sequences, and any one of them, with noise and gain, mirrored in storage and cropped."""
    name = "Brats18_CBICA_APR_1"
    if not (STUDIES / name).is_dir():
        pytest.skip("no real studies beside the project (shared/data/studies)")
    prepared = prepare(load_study(find_study(STUDIES / name)))
    known = find_model().card.fingerprints
    found = fingerprints(prepared.array, prepared.brain)
    assert same_head(found, known) == name
    noise = np.random.default_rng(0).normal(0, 0.1, prepared.array.shape).astype(np.float32)
    cut = (slice(None), *(slice(1, None),) * 3)
    altered = fingerprints((1.7 * prepared.array + noise)[cut] * prepared.brain[cut[1:]], prepared.brain[cut[1:]])
    for sequence, mark in altered.items():
        assert same_head({sequence: mark}, known) == name
    others = {study: marks for study, marks in known.items() if study != name}
    assert same_head(found, others) == ""
