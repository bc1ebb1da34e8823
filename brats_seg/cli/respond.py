"""``brats-seg respond``: response category of every visit from a table of measurements made anywhere."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from brats_seg.cli.common import episode_lines, say
from brats_seg.cli.options import add, add_console
from brats_seg.core.errors import OutputError

if TYPE_CHECKING:
    from brats_seg.response.responses import Responses

CSV_NAME = "responses.csv"
JSON_NAME = "responses.json"

HELP = "response category of every visit from a table of measurements"
DESCRIPTION = "Judge every visit of every patient by published response criteria, with reasons in words."
EPILOG = """\
MEASUREMENTS.csv: patient,visit,date,lesion,compartment,long_mm,short_mm,volume_ml
  one row per lesion and visit; compartment is enhancing or non_enhancing; dates as 2024-01-31, or a column
  days; a lesion that is gone has zeros, one without a row was not measured; a visit at which nothing is seen
  is one row with an empty lesion, for one compartment alone if that is filled in; an empty number was not
  measured. Diameters or volume may be left out. Commas, semicolons or tabs.
CLINICAL.csv: patient,date,event,value
  events: baseline, radiotherapy_end, surgery, treatment_start, steroid_mg (daily dexamethasone from that day
  on), clinical_status (stable, better, worse).
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
    parser.add_argument("measurements", type=Path, metavar="MEASUREMENTS.csv", help="lesions measured at each visit")
    add(parser, "output", "clinical")
    add(parser, "criteria", default="rano2", help="response criteria (default: %(default)s)")
    add(parser, "disease", "overwrite")
    add_console(parser, verbose="the response at every visit, with its reason")


def run(args: argparse.Namespace) -> int:
    """Read the tables, judge, write the responses, print one line per patient and measure.

    Returns:
        0; everything that goes wrong is raised as an error of the program's family.
    """
    from brats_seg.files.output import atomic_write, explain
    from brats_seg.response.responses import responses_csv, responses_json
    from brats_seg.run.respond import judge_tables

    _check_output(args.output, overwrite=args.overwrite)
    assessments, warnings, tables = judge_tables(
        args.measurements, args.clinical, criteria=args.criteria, disease=args.disease
    )
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, f"the output folder {args.output}") from error
    as_json = responses_json(assessments, warnings=warnings)
    # Both are on the disk before either appears: of a full one, neither replaces what is there.
    with atomic_write(args.output / JSON_NAME) as whole, atomic_write(args.output / CSV_NAME) as table:
        for stream, text in ((whole, as_json), (table, responses_csv(assessments))):
            stream.write(text.encode("utf-8"))
            stream.flush()
    lines = [f"warning: {args.measurements.name}: {warning}" for warning in warnings]
    lines += [f"note: {table.rows[0].table}: not used: {', '.join(table.unused)}" for table in tables if table.unused]
    for assessment in assessments:
        lines += _lines(assessment, verbose=args.verbose)
    lines.append(f"wrote {CSV_NAME} and {JSON_NAME} to {args.output}")
    say(as_json.rstrip() if args.json else "\n".join(lines), quiet=args.quiet and not args.json)
    return 0


def _lines(assessment: Responses, *, verbose: bool) -> Iterator[str]:
    """What a person reads of a patient: each baseline, what was judged, the verdicts, and what a reader must see."""
    from brats_seg.core.course import CourseEpisode
    from brats_seg.core.plain import from_plain
    from brats_seg.response.responses import Measure

    yield f"{assessment.patient}: {assessment.criteria.title}"
    yield from (f"  note: {note}" for note in assessment.notes)
    for number, episode in enumerate(assessment.episodes):
        yield f"  baseline {episode.when}: {episode.why}"
        rows = {
            measure.value: [f"      {row.when}: {row.category} ({row.decided_by})" for row in found]
            for measure in Measure
            if (found := assessment.overall(measure, number)) and verbose
        }
        yield from episode_lines(from_plain(CourseEpisode, assessment.episode_to_dict(number)), "when", rows)


def _check_output(folder: Path, *, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder. Choose another folder with -o.")
    there = [name for name in (CSV_NAME, JSON_NAME) if (folder / name).exists()]
    if there and not overwrite:
        raise OutputError(f"{folder} already holds {', '.join(there)}. Pass --overwrite, or another folder with -o.")
