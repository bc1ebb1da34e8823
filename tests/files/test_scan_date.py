"""The date of a scan, from wherever its files say it, and never invented."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats_seg.core.study import MRSequence, Timepoint
from brats_seg.files.load import scan_date

BIDS, SESSIONS = "sub-1/ses-1/anat/t1.nii.gz", "sub-1/sub-1_sessions.tsv"


@pytest.mark.parametrize(
    ("scan", "other", "content", "expected"),
    [
        ("a/x_t1.nii.gz", "a/x_t1.json", '{"AcquisitionDateTime": "2024-01-31T10:11:12.5"}', "2024-01-31"),
        ("a/x_t1.nii", "a/x_t1.json", '{"AcquisitionDate": "20240131"}', "2024-01-31"),
        ("a/x_t1.nii.gz", "a/x_t1.json", '{"AcquisitionTime": "10:11:12"}', ""),
        ("a/x_t1.nii.gz", "a/x_t1.json", "[damaged", ""),
        (BIDS, SESSIONS, "session_id\tacq_time\nses-1\t2024-01-31\n", "2024-01-31"),
        (BIDS, SESSIONS, "session_id\tacq_time\nses-2\t2024-01-31\n", ""),
        (BIDS, SESSIONS, "session_id\tdays\nses-1\t35\n", "day 35"),
        ("P1/2024-01-31/t1.nii.gz", "P1/x", "", "2024-01-31"),
        ("P1/visit1/t1.nii.gz", "P1/x", "", ""),
        ("BraTS2021_20240131/t1.nii.gz", "x", "", ""),
    ],
)  # fmt: skip
def test_the_date_is_what_the_files_say(tmp_path: Path, scan: str, other: str, content: str, expected: str) -> None:
    for name, text in ((scan, ""), (other, content)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert scan_date(Timepoint("x", {MRSequence.T1: tmp_path / scan})) == expected
