"""Scripted courses with the category of every visit known from the criteria's text; each cites the line it tests.

Written from the text, not from the program. Sizes are round: a lesion of 20 x 20 mm has a product of 400 mm2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from courses import history

from brats_seg.response.assess import assess
from brats_seg.response.criteria import BENT_2011, CRITERIA, ELLINGSON_2017, WEN_2010, WEN_2023
from brats_seg.response.responses import Disease, Measure

B = "baseline"
PD, PD_P, PD_C, PD_R = "PD", "PD preliminary", "PD confirmed", "PD refuted"
PR_P, PR_C, PR_R = "PR preliminary", "PR confirmed", "PR refuted"
CR_P, CR_C, CR_R = "CR preliminary", "CR confirmed", "CR refuted"
RT = [(0, "radiotherapy_end")]


@dataclass(frozen=True)
class Script:
    name: str
    source: str
    criteria: tuple[str, ...]
    visits: list[tuple[int, dict[str, Any]]]
    expected: list[str]
    events: list[tuple[Any, ...]] = field(default_factory=list)
    measures: tuple[str, ...] = ("2d",)
    disease: str | None = None


ALL = ("rano2", "rano-hgg", "rano-lgg", "mrano")
FINAL = ("rano2", "rano-hgg", "rano-lgg")
"""Criteria that confirm progression only early after radiotherapy."""
V20 = {"E1": (20, 20)}

SIZES = [
    Script(
        "2d: +25 % exactly is PD",
        f"{WEN_2023}: >= 25 % increase of the SPD against nadir",
        FINAL,
        [(0, V20), (60, {"E1": (25, 20)})],
        [B, PD],
    ),
    Script(
        "2d: just under +25 % is SD",
        f"{WEN_2023}: SD, none of these",
        ALL,
        [(0, V20), (60, {"E1": (25, 19.99)})],
        [B, "SD"],
    ),
    Script(
        "2d: -50 % exactly is PR",
        f"{WEN_2023}: SPD <= -50 % against baseline",
        ALL,
        [(0, V20), (60, {"E1": (20, 10)})],
        [B, PR_P],
    ),
    Script(
        "2d: just above -50 % is no PR",
        f"{WEN_2010}: SD < 50 % decrease",
        ("rano2", "rano-hgg", "mrano"),
        [(0, V20), (60, {"E1": (20, 10.01)})],
        [B, "SD"],
    ),
    Script(
        "volume: +40 % exactly is PD",
        f"{WEN_2023}: volume >= +40 % against nadir",
        FINAL,
        [(0, {"E1": 10.0}), (60, {"E1": 14.0})],
        [B, PD],
        measures=("volume",),
    ),
    Script(
        "volume: +39.9 % is SD",
        f"{WEN_2023}: SD, none of these",
        ALL,
        [(0, {"E1": 10.0}), (60, {"E1": 13.99})],
        [B, "SD"],
        measures=("volume",),
    ),
    Script(
        "volume: -65 % exactly is PR",
        f"{WEN_2023}: volume <= -65 % against baseline",
        ALL,
        [(0, {"E1": 10.0}), (60, {"E1": 3.5})],
        [B, PR_P],
        measures=("volume",),
    ),
    Script(
        "volume: -64.9 % is no PR",
        f"{ELLINGSON_2017}: PR >= 65 % volume",
        ("rano2", "rano-hgg", "mrano"),
        [(0, {"E1": 10.0}), (60, {"E1": 3.51})],
        [B, "SD"],
        measures=("volume",),
    ),
    Script(
        "+40 % exactly, where floating numbers give 39.99999999999999",
        f"{WEN_2023}: volume >= +40 %",
        FINAL,
        [(0, {"E1": 9.3}), (60, {"E1": 13.02})],
        [B, PD],
        measures=("volume",),
    ),
    Script(
        "-65 % exactly, where floating numbers give -64.99999999999999",
        f"{WEN_2023}: volume <= -65 %",
        ALL,
        [(0, {"E1": 3.3}), (60, {"E1": 1.155})],
        [B, PR_P],
        measures=("volume",),
    ),
    Script(
        "PD against nadir, not baseline",
        f"{WEN_2023}: nadir, the smallest value since and including baseline",
        FINAL,
        [(0, V20), (60, {"E1": (10, 10)}), (120, {"E1": (12.5, 10)})],
        [B, PR_R, PD],
    ),
    Script(
        "growth from nadir under 25 % stays PR",
        f"{WEN_2010}: PD against the smallest",
        ALL,
        [(0, V20), (60, {"E1": (10, 10)}), (120, {"E1": (12, 10)})],
        [B, PR_C, PR_C],
    ),
    Script(
        "two targets are summed",
        f"{WEN_2023}: sum of products of diameters",
        FINAL,
        [(0, {"E1": (20, 20), "E2": (20, 10)}), (60, {"E1": (25, 20), "E2": (20, 12.5)})],
        [B, PD],
    ),
    Script(
        "RANO 2.0 has three targets where three lesions are measurable: the third counts",
        f"{WEN_2023}: at most 2 per compartment, 3 where multifocal",
        ("rano2",),
        [(0, {"E1": (30, 20), "E2": (20, 20), "E3": (12, 10)}), (60, {"E1": (30, 20), "E2": (20, 20), "E3": (40, 40)})],
        [B, PD],
    ),
    Script(
        "RANO 2.0 has three targets at most: the fourth does not count",
        f"{WEN_2023}: at most 2 per compartment, 3 where multifocal",
        ("rano2",),
        [
            (0, {"E1": (30, 20), "E2": (20, 20), "E3": (15, 15), "E4": (12, 10)}),
            (60, {"E1": (30, 20), "E2": (20, 20), "E3": (15, 15), "E4": (40, 40)}),
        ],
        [B, "SD"],
    ),
    Script(
        "RANO-HGG has five targets: the third counts",
        f"{WEN_2010}: up to 5",
        ("rano-hgg", "rano-lgg"),
        [(0, {"E1": (30, 20), "E2": (20, 20), "E3": (12, 10)}), (60, {"E1": (30, 20), "E2": (20, 20), "E3": (40, 40)})],
        [B, PD],
    ),
    Script(
        "both diameters of 10 mm are measurable",
        f"{WEN_2023}: >= 10 mm, not >",
        FINAL,
        [(0, {"E1": (10, 10)}), (60, {"E1": (12.5, 10)})],
        [B, PD],
    ),
    Script(
        "one diameter of 9.9 mm is not measurable: growth inside is no PD",
        f"{WEN_2010}: one diameter < 10 mm",
        ALL,
        [(0, {"E1": (30, 9.9)}), (60, {"E1": (60, 9.9)})],
        [B, "SD"],
        disease="enhancing",
    ),
    Script(
        "no measurable disease: gone is SD",
        f"{WEN_2023}: without measurable disease the best category is SD",
        ALL,
        [(0, {"E1": (9, 9)}), (60, {})],
        [B, "SD"],
        disease="enhancing",
    ),
    Script(
        "volume-only: 0.52 ml is measurable",
        f"{WEN_2023}: a 10 mm sphere",
        FINAL,
        [(0, {"E1": 0.52}), (60, {"E1": 0.728})],
        [B, PD],
        measures=("volume",),
    ),
    Script(
        "volume-only: 0.51 ml is not measurable",
        f"{WEN_2023}: a 10 mm sphere",
        ALL,
        [(0, {"E1": 0.51}), (60, {"E1": 0.40})],
        [B, "SD"],
        measures=("volume",),
        disease="enhancing",
    ),
    Script(
        "2d and volume side by side may differ",
        f"{WEN_2023}: product or volume",
        ("rano2",),
        [(0, {"E1": (20, 20, 4.0)}), (60, {"E1": (25, 20, 4.5)})],
        [B, PD],
    ),
    Script(
        "... the volume of the same course is SD",
        f"{WEN_2023}: product or volume",
        ("rano2",),
        [(0, {"E1": (20, 20, 4.0)}), (60, {"E1": (25, 20, 4.5)})],
        [B, "SD"],
        measures=("volume",),
    ),
]

RESPONSES = [
    Script(
        "CR kept 28 days is confirmed",
        f"{WEN_2010}: all gone, >= 4 weeks",
        ALL,
        [(0, V20), (60, {}), (88, {})],
        [B, CR_C, CR_C],
    ),
    Script(
        "CR kept 27 days is preliminary",
        f"{WEN_2010}: sustained for at least 4 weeks",
        ALL,
        [(0, V20), (60, {}), (87, {})],
        [B, CR_P, CR_P],
    ),
    Script(
        "PR kept 28 days is confirmed",
        f"{BENT_2011}: confirmed at 4 weeks",
        ALL,
        [(0, V20), (60, {"E1": (10, 10)}), (88, {"E1": (10, 10)})],
        [B, PR_C, PR_C],
    ),
    Script(
        "PR kept 27 days is preliminary",
        f"{BENT_2011}: confirmed at 4 weeks",
        ALL,
        [(0, V20), (60, {"E1": (10, 10)}), (87, {"E1": (10, 10)})],
        [B, PR_P, PR_P],
    ),
    Script(
        "PR then SD: the PR is refuted",
        f"{WEN_2023}: kept >= 4 weeks",
        ("rano2", "rano-hgg", "mrano"),
        [(0, V20), (60, {"E1": (20, 10)}), (90, {"E1": (20, 11)})],
        [B, PR_R, "SD"],
    ),
    Script(
        "CR then PR: not a complete response, but a response that was kept",
        f"{WEN_2010}: >= 4 weeks",
        ("rano2",),
        [(0, {"E1": (40, 40)}), (60, {"E1": (20, 20)}), (90, {"E1": (19, 19)})],
        [B, PR_C, PR_C],
    ),
    Script(
        "a small rest is no CR",
        f"{WEN_2010}: all enhancing disease gone, measurable or not",
        ALL,
        [(0, V20), (60, {"E1": (3, 3)})],
        [B, PR_P],
    ),
    Script(
        "targets gone, a non-target left: no CR",
        f"{WEN_2010}: all gone, measurable and non-measurable",
        ALL,
        [(0, {"E1": (20, 20), "E2": (5, 5)}), (60, {"E1": (0, 0), "E2": (5, 5)})],
        [B, PR_P],
    ),
    Script(
        "minor response of non-enhancing disease at -25 %",
        f"{WEN_2023}: -25 to -50 % SPD, non-enhancing",
        ("rano2", "rano-lgg"),
        [(0, {"N1": (20, 20)}), (60, {"N1": (20, 15)})],
        [B, "MR"],
    ),
    Script(
        "-24.9 % is no minor response",
        f"{BENT_2011}: MR 25 to 50 %",
        ("rano2", "rano-lgg"),
        [(0, {"N1": (20, 20)}), (60, {"N1": (20, 15.02)})],
        [B, "SD"],
    ),
    Script(
        "minor response by volume in RANO 2.0 from -40 %",
        f"{WEN_2023}: -40 to -65 % volume",
        ("rano2",),
        [(0, {"N1": 10.0}), (60, {"N1": 6.0}), (120, {"N1": 6.4})],
        [B, "MR", "SD"],
        measures=("volume",),
    ),
    Script(
        "minor response by volume in RANO-LGG from -35 % (sphere)",
        f"{BENT_2011}: 25 % of the product",
        ("rano-lgg",),
        [(0, {"N1": 10.0}), (60, {"N1": 6.5}), (120, {"N1": 6.51})],
        [B, "MR", "SD"],
        measures=("volume",),
    ),
    Script(
        "no minor response of enhancing disease",
        f"{WEN_2023}: MR in the non-enhancing compartment only",
        ("rano2", "rano-hgg", "mrano"),
        [(0, V20), (60, {"E1": (20, 12)})],
        [B, "SD"],
    ),
    Script(
        "no minor response of T2/FLAIR in HGG and mRANO",
        f"{WEN_2010}: CR, PR, SD, PD",
        ("rano-hgg", "mrano"),
        [(0, {"N1": (20, 20)}), (60, {"N1": (20, 12)})],
        [B, "SD"],
    ),
]

NEW = [
    Script(
        "a new measurable lesion is PD",
        f"{WEN_2023}: a new measurable lesion",
        FINAL,
        [(0, V20), (60, {**V20, "E2": (10, 10)})],
        [B, PD],
    ),
    Script(
        "a new small lesion is no PD in RANO 2.0",
        f"{WEN_2023}: a new *measurable* lesion",
        ("rano2", "mrano"),
        [(0, V20), (60, {**V20, "E2": (10, 9.9)})],
        [B, "SD"],
    ),
    Script(
        "a new lesion of any size is PD in HGG and LGG",
        f"{WEN_2010}: any new lesion",
        ("rano-hgg", "rano-lgg"),
        [(0, V20), (60, {**V20, "E2": (3, 3)})],
        [B, PD],
    ),
    Script(
        "a new small lesion that grows to 10 mm is PD then",
        f"{WEN_2023}: a new measurable lesion",
        ("rano2",),
        [(0, V20), (60, {**V20, "E2": (5, 5)}), (120, {**V20, "E2": (10, 10)})],
        [B, "SD", PD],
    ),
    Script(
        "mRANO adds a new lesion to the sum: +22.5 % is SD",
        f"{ELLINGSON_2017}: added to the sum",
        ("mrano",),
        [(0, V20), (60, {"E1": (20, 19.5), "E2": (10, 10)})],
        [B, "SD"],
    ),
    Script(
        "mRANO adds a new lesion to the sum: +25 % is PD",
        f"{ELLINGSON_2017}: added to the sum",
        ("mrano",),
        [(0, V20), (60, {**V20, "E2": (10, 10)})],
        [B, PD_P],
    ),
    Script(
        "a new lesion beats shrinking targets",
        f"{WEN_2023}: or a new measurable lesion",
        FINAL,
        [(0, V20), (60, {"E1": (10, 10), "E2": (10, 10)})],
        [B, PD],
    ),
    Script(
        "new measurable disease without any at baseline",
        f"{WEN_2023}: PD needs a new measurable lesion",
        FINAL,
        [(0, {}), (60, {"E1": (10, 10)})],
        [B, PD],
        disease="enhancing",
    ),
    Script(
        "new small disease without any at baseline",
        f"{WEN_2023}: zero baseline, not measurable, follow",
        ("rano2", "mrano"),
        [(0, {}), (60, {"E1": (9, 9)})],
        [B, "SD"],
        disease="enhancing",
    ),
    Script(
        "zero nadir: measurable again is PD",
        f"{WEN_2023}: nadir of zero, a new measurable lesion is PD",
        FINAL,
        [(0, V20), (60, {}), (90, {}), (150, {"E1": (10, 10)})],
        [B, CR_C, CR_C, PD],
    ),
    Script(
        "zero nadir: 9 mm is SD, follow",
        f"{WEN_2023}: anything smaller is SD",
        ("rano2", "mrano"),
        [(0, V20), (60, {}), (90, {}), (150, {"E1": (9, 9)})],
        [B, CR_C, CR_C, "SD"],
    ),
    Script(
        "zero nadir in HGG: any size is new disease",
        f"{WEN_2010}: any new lesion",
        ("rano-hgg", "rano-lgg"),
        [(0, V20), (60, {}), (90, {}), (150, {"E1": (5, 5)})],
        [B, CR_C, CR_C, PD],
    ),
    Script(
        "zero nadir by volume",
        f"{WEN_2023}: zero nadir; 0.52 ml is measurable",
        ("rano2",),
        [(0, {"E1": 4.0}), (60, {}), (90, {}), (150, {"E1": 0.51}), (200, {"E1": 0.52})],
        [B, CR_C, CR_C, "SD", PD],
        measures=("volume",),
    ),
    Script(
        "new enhancement in a non-enhancing tumour",
        f"{BENT_2011}: new enhancement is PD",
        ("rano-lgg", "rano-hgg"),
        [(0, {"N1": (30, 30)}), (60, {"N1": (30, 30), "E1": (4, 4)})],
        [B, PD],
    ),
    Script(
        "new measurable enhancement in a non-enhancing tumour",
        f"{WEN_2023}: a new measurable lesion",
        ("rano2",),
        [(0, {"N1": (30, 30)}), (60, {"N1": (30, 30), "E1": (4, 4)}), (90, {"N1": (30, 30), "E1": (10, 10)})],
        [B, "SD", PD],
    ),
]

EARLY = [
    Script(
        "PD within 12 weeks, confirmed 28 days later",
        f"{WEN_2023}: date of PD is the first scan",
        ALL,
        [(28, V20), (56, {"E1": (25, 20)}), (84, {"E1": (25, 20)})],
        [B, PD_C, PD_C],
        RT,
    ),
    Script(
        "PD within 12 weeks, next scan after 27 days settles nothing",
        f"{WEN_2023}: a scan >= 4 weeks later",
        ALL,
        [(28, V20), (56, {"E1": (25, 20)}), (83, {"E1": (25, 20)})],
        [B, PD_P, PD_P],
        RT,
    ),
    Script(
        "pseudoprogression: refuted, then SD",
        f"{WEN_2023}: keeps its category with status refuted",
        ALL,
        [(28, V20), (56, {"E1": (25, 20)}), (112, {"E1": (20, 19)})],
        [B, PD_R, "SD"],
        RT,
    ),
    Script(
        "confirmation compares with the nadir: still +25 % though smaller than before",
        f"{WEN_2023}: confirmation compares with the nadir",
        ALL,
        [(28, V20), (56, {"E1": (30, 30)}), (112, {"E1": (25, 20)})],
        [B, PD_C, PD_C],
        RT,
    ),
    Script(
        "PD on day 84 is within 12 weeks",
        f"{WEN_2023}: within 12 weeks",
        ALL,
        [(28, V20), (84, {"E1": (25, 20)})],
        [B, PD_P],
        RT,
    ),
    Script(
        "PD on day 85 needs no confirmation",
        f"{WEN_2023}: after 12 weeks confirmation is an option",
        FINAL,
        [(28, V20), (85, {"E1": (25, 20)}), (150, {"E1": (20, 19)})],
        [B, PD, PD],
        RT,
    ),
    Script(
        "mRANO confirms at any time",
        f"{ELLINGSON_2017}: preliminary PD, confirm at next scan",
        ("mrano",),
        [(28, V20), (200, {"E1": (25, 20)}), (228, {"E1": (25, 20)})],
        [B, PD_C, PD_C],
        RT,
    ),
    Script(
        "mRANO refutes at any time",
        f"{ELLINGSON_2017}: preliminary PD, confirm at next scan",
        ("mrano",),
        [(28, V20), (200, {"E1": (25, 20)}), (228, {"E1": (22, 20)})],
        [B, PD_R, "SD"],
        RT,
    ),
    Script(
        "after confirmed PD every visit stays PD",
        f"{WEN_2023}: stays PD until surgery or treatment_start",
        ALL,
        [(28, V20), (56, {"E1": (25, 20)}), (84, {"E1": (25, 20)}), (140, {"E1": (10, 10)}), (200, {})],
        [B, PD_C, PD_C, PD_C, PD_C],
        RT,
    ),
    Script(
        "pseudoprogression, then response",
        f"{WEN_2023}: refuted; PR against baseline",
        ALL,
        [(28, V20), (56, {"E1": (25, 20)}), (112, {"E1": (10, 10)}), (140, {"E1": (10, 10)})],
        [B, PD_R, PR_C, PR_C],
        RT,
    ),
    Script(
        "a refuted progression does not end a response",
        f"{WEN_2023}: refuted is pseudoprogression",
        ALL,
        [(28, V20), (40, {"E1": (10, 10)}), (60, {"E1": (14, 14)}), (88, {"E1": (10, 10)})],
        [B, PR_C, PD_R, PR_C],
        RT,
    ),
    Script(
        "a scan on the day of surgery is before it",
        f"{WEN_2023}: surgery sets a new baseline",
        ALL,
        [(28, V20), (130, {"E1": (20, 19)}), (150, {"E1": (10, 10)})],
        [B, "SD", B],
        [*RT, (130, "surgery")],
    ),
    Script(
        "a scan on the day of treatment is before it",
        f"{WEN_2023}: the MRI before the new treatment",
        FINAL,
        [(0, {"E1": (10, 10)}), (60, V20), (130, {"E1": (20, 10)})],
        [B, PD, PR_P],
        [(60, "treatment_start")],
    ),
    Script(
        "early new lesion that goes away again",
        f"{WEN_2023}: preliminary until a later scan",
        ("rano2",),
        [(28, V20), (56, {**V20, "E2": (12, 12)}), (112, V20)],
        [B, PD_R, "SD"],
        RT,
    ),
    Script(
        "visits before the scan after radiotherapy are not judged",
        f"{WEN_2023}: visits before baseline: NE",
        ALL,
        [(-60, {"E1": (40, 40)}), (-40, {"E1": (10, 10)}), (28, V20), (120, {"E1": (20, 19)})],
        ["NE", "NE", B, "SD"],
        RT,
    ),
    Script(
        "recurrent: the scan before treatment is a baseline, and is judged against those before",
        f"{WEN_2023}: MRI before the new treatment",
        FINAL,
        [(0, {"E1": (10, 10)}), (60, V20), (130, {"E1": (20, 10)})],
        [B, PD, PR_P],
        [(65, "treatment_start")],
    ),
    Script(
        "a marked baseline wins",
        f"{WEN_2023}: protocol's baseline",
        ALL,
        [(10, {"E1": (40, 40)}), (40, V20), (130, {"E1": (20, 19)})],
        ["NE", B, "SD"],
        [*RT, (40, "baseline")],
    ),
    Script(
        "a new treatment after PD starts from the scan before it",
        f"{WEN_2023}: recurrent, pre-treatment",
        FINAL,
        [(28, V20), (120, {"E1": (30, 20)}), (190, {"E1": (20, 15)}), (220, {"E1": (20, 15)})],
        [B, PD, PR_C, PR_C],
        [*RT, (125, "treatment_start")],
    ),
    Script(
        "surgery after PD sets a new baseline",
        f"{WEN_2023}: until surgery sets a new baseline",
        FINAL,
        [(28, V20), (120, {"E1": (30, 20)}), (150, {"E1": (10, 10)}), (210, {"E1": (11, 10)})],
        [B, PD, B, "SD"],
        [*RT, (130, "surgery")],
    ),
    Script(
        "surgery leaves an unsettled progression preliminary",
        f"{WEN_2023}: confirmation by a later scan",
        ALL,
        [(28, V20), (56, {"E1": (30, 20)}), (120, {"E1": (10, 10)})],
        [B, PD_P, B],
        [*RT, (70, "surgery")],
    ),
]

FACTS = [
    Script(
        "more steroids: PR is not evaluable until clear",
        f"{WEN_2023}: a higher dose makes CR, PR or SD NE",
        ALL,
        [(0, V20), (60, {"E1": (10, 10)}), (120, {"E1": (10, 10)})],
        [B, "NE", PR_P],
        [(0, "steroid_mg", 2), (50, "steroid_mg", 8), (110, "steroid_mg", 2)],
    ),
    Script(
        "more steroids alone are not PD",
        f"{WEN_2023}: dose alone is no determinant of progression",
        ALL,
        [(0, V20), (60, V20)],
        [B, "NE"],
        [(0, "steroid_mg", 2), (60, "steroid_mg", 4)],
    ),
    Script(
        "PD stays PD under more steroids",
        f"{WEN_2023}: a higher dose makes a CR, PR or SD NE",
        FINAL,
        [(0, V20), (60, {"E1": (30, 20)})],
        [B, PD],
        [(0, "steroid_mg", 2), (50, "steroid_mg", 8)],
    ),
    Script(
        "fewer steroids change nothing",
        f"{WEN_2010}: stable or lower",
        ALL,
        [(0, V20), (60, {"E1": (10, 10)})],
        [B, PR_P],
        [(0, "steroid_mg", 8), (50, "steroid_mg", 4)],
    ),
    Script(
        "CR needs no steroids",
        f"{WEN_2010}: CR, no steroids beyond physiologic replacement",
        ALL,
        [(0, V20), (60, {})],
        [B, PR_P],
        [(0, "steroid_mg", 4)],
    ),
    Script(
        "physiologic replacement allows CR",
        f"{WEN_2010}: physiologic replacement doses only",
        ALL,
        [(0, V20), (60, {})],
        [B, CR_P],
        [(0, "steroid_mg", 4), (30, "steroid_mg", 0.75)],
    ),
    Script(
        "steroids first recorded after baseline are a rise",
        f"{WEN_2023}: from that day on",
        ALL,
        [(0, V20), (60, V20)],
        [B, "NE"],
        [(50, "steroid_mg", 4)],
    ),
    Script(
        "clinical decline is PD",
        f"{WEN_2010}: clear clinical deterioration",
        FINAL,
        [(0, V20), (60, V20)],
        [B, PD],
        [(55, "clinical_status", "worse")],
    ),
    Script(
        "a bad status at baseline is no decline",
        f"{WEN_2010}: clinical deterioration since baseline",
        ALL,
        [(0, V20), (60, V20)],
        [B, "SD"],
        [(0, "clinical_status", "worse")],
    ),
    Script(
        "early clinical decline that passes",
        f"{WEN_2023}: within 12 weeks preliminary",
        ALL,
        [(28, V20), (56, V20), (112, V20)],
        [B, PD_R, "SD"],
        [*RT, (50, "clinical_status", "worse"), (100, "clinical_status", "better")],
    ),
    Script(
        "a target without diameters cannot be judged by them",
        "issue: empty means not measured that way",
        ALL,
        [(0, {"E1": (20, 20, 4.0)}), (60, {"E1": 4.0})],
        [B, "NE"],
    ),
    Script(
        "... and is judged by volume",
        "issue: then the other measure alone is judged",
        ALL,
        [(0, {"E1": (20, 20, 4.0)}), (60, {"E1": 4.0})],
        [B, "SD"],
        measures=("volume",),
    ),
    Script(
        "an unmeasured visit neither confirms nor refutes",
        f"{WEN_2023}: a scan that still meets it",
        ALL,
        [(28, V20), (56, {"E1": (25, 20)}), (84, {"E1": 3.0}), (112, {"E1": (25, 20)})],
        [B, PD_C, "NE", PD_C],
        RT,
    ),
]

M = {"E1": (20, 20), "N1": (40, 40)}
MIXED = [
    Script(
        "mixed: PD in one is PD",
        f"{WEN_2023}: PD + SD/MR/PR/CR = PD",
        FINAL,
        [(0, M), (60, {"E1": (10, 10), "N1": (50, 40)})],
        [B, PD],
        disease="mixed",
    ),
    Script(
        "mixed: PR + SD is PR",
        f"{WEN_2023}: MR/PR + SD = MR/PR",
        ("rano2", "rano-hgg", "mrano"),
        [(0, M), (60, {"E1": (10, 10), "N1": (40, 40)})],
        [B, PR_P],
        disease="mixed",
    ),
    Script(
        "mixed: SD + MR is MR",
        f"{WEN_2023}: MR/PR + SD = MR/PR",
        ("rano2", "rano-lgg"),
        [(0, M), (60, {"E1": (20, 20), "N1": (40, 28)})],
        [B, "MR"],
        disease="mixed",
    ),
    Script(
        "mixed: CR + SD is SD",
        f"{WEN_2023}: CR + SD/MR/PR = SD/MR/PR",
        ALL,
        [(0, M), (60, {"E1": (0, 0), "N1": (40, 40)})],
        [B, "SD"],
        disease="mixed",
    ),
    Script(
        "mixed: CR + PR is PR",
        f"{WEN_2023}: CR + SD/MR/PR = SD/MR/PR",
        ALL,
        [(0, M), (60, {"E1": (0, 0), "N1": (20, 20)}), (90, {"E1": (0, 0), "N1": (20, 20)})],
        [B, PR_C, PR_C],
        disease="mixed",
    ),
    Script(
        "mixed: CR + CR is CR",
        f"{WEN_2023}: all lesions gone",
        ALL,
        [(0, M), (60, {}), (90, {})],
        [B, CR_C, CR_C],
        disease="mixed",
    ),
    Script("mixed: SD + SD is SD", f"{WEN_2023}: SD + SD = SD", ALL, [(0, M), (60, M)], [B, "SD"], disease="mixed"),
    Script(
        "enhancing by default: T2/FLAIR is mostly edema and not judged",
        "issue: not judged by percentages",
        ("rano2", "rano-hgg", "mrano"),
        [(0, M), (60, {"E1": (20, 20), "N1": (80, 80)})],
        [B, "SD"],
    ),
    Script(
        "enhancing by default where anything enhances, measurable or not",
        f"{WEN_2023}: T2/FLAIR of an enhancing tumour is mostly edema",
        ("rano2", "rano-hgg", "mrano"),
        [(0, {"E1": (5, 5), "N1": (40, 40)}), (60, {"E1": (5, 5), "N1": (50, 40)})],
        [B, "SD"],
    ),
    Script(
        "T2/FLAIR by default in RANO-LGG, whatever enhances",
        f"{BENT_2011}: T2/FLAIR is the main measure",
        ("rano-lgg",),
        [(0, {"E1": (20, 20), "N1": (40, 40)}), (60, {"E1": (20, 20), "N1": (50, 40)})],
        [B, PD],
    ),
]

SCRIPTS = [*SIZES, *RESPONSES, *NEW, *EARLY, *FACTS, *MIXED]
CASES = [
    pytest.param(script, name, measure, id=f"{name}-{measure}: {script.name}")
    for script in SCRIPTS
    for name in script.criteria
    for measure in script.measures
]


@pytest.mark.parametrize(("script", "name", "measure"), CASES)
def test_category_of_every_visit(script: Script, name: str, measure: str) -> None:
    visits, disease = script.visits, Disease(script.disease) if script.disease else None
    names = {lesion[0] for _, lesions in visits for lesion in lesions}
    if name == "rano-lgg" and "N" not in names and disease in (None, Disease.ENHANCING):
        # The same course of T2/FLAIR lesions, which RANO-LGG measures.
        visits = [(day, {f"N{lesion[1:]}": size for lesion, size in lesions.items()}) for day, lesions in visits]
        disease = None
    assessment = assess(history(visits, script.events), CRITERIA[name], disease=disease)
    rows = assessment.overall(Measure(measure))
    assert [f"{row.category} {row.status}".strip() for row in rows] == script.expected, [row.reasons for row in rows]
    assert all(row.reasons for row in assessment.rows), "every answer says why"


def test_there_are_enough_scripts_for_every_criteria_set() -> None:
    assert len(SCRIPTS) >= 40
    for name in CRITERIA:
        assert sum(name in script.criteria for script in SCRIPTS) >= 40
