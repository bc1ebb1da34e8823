"""Phantom timelines scanned: the courses of :mod:`.course_timelines` as a data set that ``brats-seg track`` can follow.

What ``brats-seg phantom`` draws by chance hardly holds a complete response; these courses hold every category often
enough, so that the whole pipeline, segmentation included, can be held against the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from brats_seg.core.errors import InputError
from brats_seg.phantom.dataset import DatasetOptions, patient_name, write_course
from brats_seg.phantom.script import Course


def scan_timelines(
    courses: Sequence[Course], output: Path, *, seed: int, on_patient: Callable[[str, int], None]
) -> tuple[str, ...]:
    """Scan every course on the grid of BraTS; visits that are whole are kept.

    Args:
        courses: of :func:`.course_timelines.draw_timelines`.
        output: folder of the data set; patients are named by their number, ``sub-001`` and so on.
        seed: of scanners and places.
        on_patient: called with name and number of new visits of each patient.

    Returns:
        Names of the courses whose lesions fit nowhere in a brain; they are passed over.

    Raises:
        OutputError: if something cannot be written.
    """
    misfits = []
    for number, course in enumerate(courses, start=1):
        options = DatasetOptions(patients=len(courses), visits=len(course.visits), seed=seed, kind=course.kind)
        named = replace(course, patient_id=patient_name(number))
        try:
            done = write_course(named, options, number, output)
        except InputError:  # two lesions drawn for one small place
            misfits.append(course.patient_id)
            continue
        on_patient(named.patient_id, done.written)
    return tuple(misfits)
