"""Words of file names: sequences, contrast and its absence, label maps, and images that are no scans.

Taken from the names of BraTS, BIDS and the protocols of Siemens, GE and Philips, in the languages these are typed in.
Everything is lower case and without accents.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from brats_seg.core.study import MRSequence
from brats_seg.core.words import word_set

T1_WORDS = word_set("t1 t1w t1wi t1n mprage spgr fspgr bravo vibe st1w st1")
T2_WORDS = word_set("t2 t2w t2wi st2w st2")
FLAIR_WORDS = word_set("flair fla fl t2f flairw darkfluid tirm dafl")
SEQUENCE_WORDS: dict[str, MRSequence] = {
    **dict.fromkeys(T1_WORDS, MRSequence.T1),
    **dict.fromkeys(T2_WORDS, MRSequence.T2),
    **dict.fromkeys(FLAIR_WORDS, MRSequence.FLAIR),
}

CONTRAST = word_set(
    """
    ce gd gad gado gadolinium km contrast contrasted enhanced enh mdc dtpa gddtpa kontrast kontrastmittel contraste
    contrasto contrastenhanced gadovist dotarem gadavist magnevist multihance prohance omniscan clariscan elucirem
    gadobutrol gadoterate injection inj mkm verstarkt injecte injected kontrastom контраст контраста контрастом ку
    造影 增强
    """
)
WITHOUT = word_set("no non not wo without un ohne kein keine sans sin senza zonder sem uden utan uten bez без minus")
"""Before a word for contrast, or at the end, they deny it."""
DENYING = word_set("free frei neg negative negativ none minus")
"""Behind a word for contrast, they deny it."""
FILLERS = word_set("injection iv de di any medio mezzo produit of von")
"""Stand between a denial and the word for contrast."""
WITH = word_set("w with mit avec con com med met")
NATIVE = word_set(
    """
    native nativ nativo nativa natif plain unenhanced uncontrasted none noncontrast nonenhanced noncon precontrast
    nogd nocontrast nonce okm 平扫
    """
)
"""Deny contrast by themselves."""
BEFORE = word_set("pre vor before avant antes prima до")
AFTER = word_set("post nach after apres pos despues depois dopo после")
LATE = word_set("late delayed delay")
"""Of a T1, speak of contrast without naming it."""
EVENTS = word_set(
    """
    op operative operation surgery surgical resection rt xrt crt rct radiotherapy radiation irradiation treatment
    treated tx therapy chemo chemotherapy chemoradiation radiochemotherapy chemoradiotherapy biopsy bx tmz
    temozolomide bev bevacizumab avastin gamma knife gk srs craniotomy steroid steroids ictal mortem natal
    """
)
"""After these, before and after speak of a treatment and not of contrast."""

DESCRIPTIVE = word_set(
    """
    ax axial tra trans transversal sag sagittal cor coronal 3d 2d mr mri brain head dark fluid se tse fse spin echo
    mpr mp rage space spc cube vista fs iso gre tfe ffe ir irprep frfse propeller blade weighted da wip sense
    brainview ns fatsat restore acq scan image vol
    """
)
"""Words that describe a scan and are no part of an id."""
PLACED = word_set(
    """
    reg registered coreg coregistered aligned resampled brain bet stripped ss n4 bias corrected cor norm normalized
    masked bc ax axial tra sag iv 3d 2d fs iso mprage mpr tse se fse gre space sri mni lps ras
    """
)
"""Words behind ``pre`` and ``post`` that leave them speaking of contrast; any other could name a treatment."""

LABELS = word_set(
    """
    seg segm dseg segs segmentation segmentations segmented label labels labelmap gt groundtruth truth annotation
    annotations ot gtv glistrboost manuallycorrected tumormask tumourmask lesionmask tumorseg tumourseg
    tumorsegmentation tumoursegmentation
    """
)
MASKS = word_set("mask masks")
MODEL_WORDS = word_set(
    """
    probseg pred preds prediction predicted prob probs probability probabilities softmax logits uncertainty roi aseg
    aparc parcellation tissue brainmask mslesions lesions wmlesions skull pve
    """
)
DERIVED = word_set(
    """
    adc dwi swi asl dti bold hardi rcbv cbv cbf mtt ktrans dsc dce pwi map maps ratio subtraction subtracted
    subtract subtr subt subtraktion difference diff delta t2star t2starw star localizer localiser scout warp field
    jacobian std phase pha imag imaginary real inv inv1 inv2 uni unit1 mt mtr mtc mtsat mton rho r1 r2 r2star r1map
    b0 b1 qt1 mip minip trace perf mp2rage hemo fieldmap subtrahiert sustraccion soustraction zmap mapping t2s t1s
    perfusion biasfield swan synthetic synthsr quotient relaxation relaxometry opp dyn dynamic twist tricks wm gm
    csf
    """
)
"""Images made from scans, and scans of another kind."""
DOUBTFUL = word_set("stir pd pdw pdt2")
TARGETS = word_set("to onto into on in 2 reg2 reg registered coreg coregistered aligned align resampled resliced")
"""A sequence behind these is the target of a registration: ``flair_to_t1`` is a FLAIR."""


@dataclass(frozen=True)
class Word:
    """A word of a name.

    Attributes:
        text: folded to lower case without accents.
        piece: number of the written word it is a part of.
        gap: what stands between it and the word before.
    """

    text: str
    piece: int
    gap: str = ""


PIECE = re.compile(r"[^_\-. +()\[\],&]+")
DASHES = str.maketrans("−–—‐‑‒", "------")
CUT = "cut"
"""Stands for a sign or a word that denies contrast."""
PLUS = "plus"


def fold(text: str) -> str:
    """Lower case, without accents, with every kind of dash the same."""
    folded = unicodedata.normalize("NFKD", text.translate(DASHES).lower())
    return "".join(letter for letter in folded if not unicodedata.combining(letter))


@lru_cache(maxsize=4096)
def words_of(text: str) -> tuple[Word, ...]:
    """The words of a name, run-together ones taken apart, with the signs between them."""
    written = text.translate(DASHES)
    pieces = list(PIECE.finditer(written))
    words: list[Word] = []
    for number, piece in enumerate(pieces):
        gap = written[pieces[number - 1].end() if number else 0 : piece.start()]
        parts = parts_of(fold(piece.group()))
        if "+" in gap and words:
            words.append(Word(PLUS, number - 1, gap))
        words += [Word(part, number, gap if place == 0 else "") for place, part in enumerate(parts)]
    tail = written[pieces[-1].end() :] if pieces else ""
    if "+" in tail:
        words.append(Word(PLUS, len(pieces) - 1, tail))
    return tuple(_with_signs(words, tail))


_BEHIND = re.compile(r"-.|[ _]?[(\[] ?- ?[)\]]")
_BEFORE = re.compile(r".*[ _(\[]-")
"""Dashes between two words that belong to the one behind them, or to the one before."""


def _with_signs(words: list[Word], tail: str) -> list[Word]:
    """Dashes that are minus signs become words: ``T1 C-``, ``T1_Gd(-)``, ``T1-C``, ``T1 -C``."""
    result: list[Word] = []
    dashes = sum(word.gap.count("-") for word in words)
    for number, word in enumerate(words):
        before = words[number - 1] if number else None
        single = word.text == "c" and word.gap == "-" and dashes == 1 and before is not None
        if single and before is not None and SEQUENCE_WORDS.get(before.text) is MRSequence.T1:
            result.append(Word(CUT, before.piece))  # T1-C is T1 minus contrast where it is the only dash
        elif word.text in CONTRAST | {"c"} and _BEFORE.fullmatch(word.gap):
            result.append(Word(CUT, word.piece))
        elif before is not None and before.text in CONTRAST | {"c"} and _BEHIND.match(word.gap):
            result.append(Word(CUT, before.piece))
        result.append(word)
    if words and tail.strip(" ()[]").startswith("-") and words[-1].text in CONTRAST | {"c"}:
        result.append(Word(CUT, words[-1].piece))
    return result


_SHORT = word_set("c w n")
_GLUED = frozenset().union(CONTRAST, NATIVE, WITHOUT, BEFORE, AFTER, EVENTS, DERIVED, MASKS, LABELS, SEQUENCE_WORDS)
_GLUED |= _SHORT | word_set("to 2 reg mpr tse se fse gre tfe 3d fs sag ax cor tra brain")
_SIMPLE = _GLUED | DESCRIPTIVE | PLACED | TARGETS | WITH | MODEL_WORDS | DOUBTFUL


def known_words(text: str) -> str:
    """The words of a text that are listed here; what else a scanner's operator typed may be a person's name."""
    return " ".join(word.text for word in words_of(text) if word.text in _SIMPLE or word.text in (PLUS, CUT))


def parts_of(word: str) -> list[str]:
    """A run-together word as its known parts where it is made of nothing else, around one sequence or treatment."""
    if word in _SIMPLE or len(word) > 40:
        return [word]
    if any(word.removesuffix(end) in CONTRAST for end in ("free", "frei") if word.endswith(end)):
        return [CUT]
    if word.startswith("gado"):
        return ["gado"]  # gadobutrol, gadoterate, and whatever comes
    found = _split(word, {})
    if found is None:  # after what, nobody knows: "post5min"
        return ["post", word[4:]] if re.match(r"post(?!er|pro|ure)", word) else [word]
    if any(
        part in ("2", "to", "reg") and (found[n + 1 : n + 2] or ("",))[0] not in SEQUENCE_WORDS
        for n, part in enumerate(found)
    ):
        return [word]
    named = any(part in SEQUENCE_WORDS for part in found)
    treated = len(found) == 2 and found[0] in BEFORE | AFTER and found[1] in EVENTS | CONTRAST
    return list(found) if named or treated else [word]


def _split(word: str, known: dict[str, tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """The fewest known words that make up a word, or None."""
    if not word:
        return ()
    if word not in known:
        best: tuple[str, ...] | None = None
        for size in range(len(word), 0, -1):
            if word[:size] in _GLUED and (rest := _split(word[size:], known)) is not None:
                found = (word[:size], *rest)
                best = found if best is None or len(found) < len(best) else best
        known[word] = best
    return known[word]
