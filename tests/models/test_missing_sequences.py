"""What a card says about missing sequences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_models import small_model

from brats_seg.core.study import SEQUENCES, MRSequence
from brats_seg.models.card import ModelCard, read_bundle, write_card

WITHOUT_FLAIR = (MRSequence.T1, MRSequence.T1CE, MRSequence.T2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("models") / "small").folder


@pytest.fixture(scope="module")
def card(folder: Path) -> ModelCard:
    return read_bundle(folder).card


def test_nothing_is_lost_with_all_four(card: ModelCard) -> None:
    assert card.expected_loss(SEQUENCES) == ""


def test_what_was_not_measured_is_not_claimed(card: ModelCard) -> None:
    words = "how much is lost without FLAIR was not measured for this model"
    assert replace(card, held_out=()).expected_loss(WITHOUT_FLAIR) == words
    assert card.expected_loss(WITHOUT_FLAIR) == f"{words} alone, which is one of a cross-validation"


def test_what_was_measured_is_said_and_kept(card: ModelCard, folder: Path) -> None:
    subsets = {"t1+t1ce+t2+flair": {"WT": 0.9, "ET": 0.8}, "t1+t1ce+t2": {"WT": 0.845, "ET": 0.79}}
    write_card(replace(card, subsets=subsets), folder)
    again = read_bundle(folder).card
    assert again.expected_loss(WITHOUT_FLAIR[::-1]) == (
        "without FLAIR mean Dice on other studies was WT 0.84, ET 0.79; with all sequences WT 0.90, ET 0.80"
    )
    assert "without T1CE and T2 was not measured" in again.expected_loss([MRSequence.T1, MRSequence.FLAIR])
