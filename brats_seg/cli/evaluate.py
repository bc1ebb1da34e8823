"""``brats-seg evaluate``: predictions against an expert's label maps, and two models against each other."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import (
    Failures,
    attempt,
    failures_as_json,
    log,
    open_page,
    progress,
    report_failures,
    say,
)
from brats_seg.cli.options import add, add_console
from brats_seg.core.errors import InputError, OutputError, UsageError
from brats_seg.core.regions import SCHEMAS, RegionSet
from brats_seg.core.words import counted

if TYPE_CHECKING:
    import pandas as pd

    from brats_seg.core.grid import Grid, Volume
    from brats_seg.core.visit import RegionMaps
    from brats_seg.evaluate.cases import CasePair
    from brats_seg.evaluate.evaluate import Evaluation
    from brats_seg.files.label_map import MaskReading
    from brats_seg.files.match_labels import LabelMatches, LabelPair

_EPILOG = f"""\
PREDICTIONS and REFERENCES are matched by study id, else by the scans that a prediction was made of. They are results
of this program (ID/ID_dseg.nii.gz), BraTS study folders (ID_seg.nii.gz or ID-seg.nii.gz), a folder of ID.nii.gz, or
either in Slicer's format (ID.seg.nrrd) or as DICOM segmentations (ID_seg.dcm, or any name in a folder called ID).
Probabilities (ID_probseg.nii.gz beside a prediction) are evaluated where they lie. What cannot be evaluated is listed,
the rest is evaluated, and the exit code is 3. Intervals need 5 patients, tests of --compare 6; a prediction by a model
that was trained on the study is marked, and left out of a second mean.

schemas: auto (default; trusts the .json beside a file, a BraTS name, or the values 1, 2, 4), or one of
{", ".join(SCHEMAS)}
"""
_SEED = 2023
"""Of the bootstrap, so that the same files give the same intervals."""
_PRINTED = (("dice", "Dice", 3), ("hd95_mm", "HD95 mm", 2), ("lesionwise_dice", "lesion-wise Dice", 3))
SIDES = ("predictions", "references")
REPORT = "evaluation.html"
TABLES = "evaluation.json"


@dataclass
class _Gathered:
    """What was read on the way through the pairs of one set of predictions.

    Attributes:
        inputs: by case, what was compared with what.
        filled: by checksum of a prediction that is not empty, its cases.
        notes: what was done about a file and changes no score.
        warnings: what a reader of the figures has to know.
        failures: what could not be evaluated.
    """

    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    filled: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failures: Failures = field(default_factory=list)


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "evaluate",
        help="compare predictions with an expert's label maps, or two models with each other",
        description="Dice, distances, lesion-wise scores, detection, agreement of volumes and calibration of every\n"
        f"study; tables (CSV, {TABLES}) and {REPORT} go to OUT.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words = {"predictions": "label maps to evaluate: a folder or one file", "references": "the expert's label maps"}
    for side in SIDES:
        parser.add_argument(side, nargs="?", type=Path, metavar=side.upper(), help=words[side])
        parser.add_argument(f"--{side}", dest=f"named_{side}", type=Path, help=argparse.SUPPRESS)  # until 0.1
    add(parser, "output")
    parser.add_argument(
        "--compare", type=Path, metavar="OTHERS", help="another model's predictions, compared with PREDICTIONS"
    )
    for side in SIDES:
        parser.add_argument(
            f"--schema-{side}",
            default="auto",
            choices=("auto", *SCHEMAS),
            metavar="NAME",
            help=f"what the numbers of the {side} mean (default: auto)",
        )
    parser.add_argument(
        "--resample",
        action="store_true",
        help="put predictions from another grid of the same space on the reference's (nearest neighbour)",
    )
    add(parser, "overwrite", "open")
    add_console(parser, verbose="the scores of every case")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, compare where asked for, write, print."""
    from brats_seg.files.match_labels import match_places
    from brats_seg.files.output import OutputFolder

    _take_named(arguments)
    matches = match_places(arguments.predictions, arguments.references)
    compared = match_places(arguments.compare, arguments.references) if arguments.compare else None
    refuse_other_results(arguments.output, REPORT)
    exists = "overwrite" if arguments.overwrite else "refuse"
    failures = _unmatched(matches, "predictions") + (_unmatched(compared, "comparison") if compared else [])
    with OutputFolder(arguments.output, exists=exists) as folder:  # type: ignore[arg-type]
        first = _evaluate(arguments, matches, "predictions", failures)
        if first is None:
            report_failures(failures, finished=0)
            raise InputError(
                f"not one of {counted(len(matches.pairs), 'pair')} could be evaluated; the reasons are above"
            )
        second = _evaluate(arguments, compared, "comparison", failures) if compared else None
        comparison = _compare(first[0], second[0]) if second else None
        _write(arguments, folder.path, (first, second), comparison, failures)
    evaluation = first[0]
    if arguments.json:
        say(json.dumps(_summary(evaluation, comparison, failures, folder.final, first[1]), indent=1))
    else:
        text = _text(evaluation, comparison, folder.final, first[1], verbose=arguments.verbose)
        say(text, quiet=arguments.quiet)
    if arguments.open:
        open_page(folder.final / REPORT)
    return report_failures(failures, finished=len(evaluation.case_ids))


def _take_named(arguments: argparse.Namespace) -> None:
    """Take ``--predictions A --references B``, as the command was written at first, for ``A B``.

    Raises:
        UsageError: if one of the two is missing, or given twice.
    """
    for side in SIDES:
        named = getattr(arguments, f"named_{side}")
        if named is not None and getattr(arguments, side) is not None:
            raise UsageError("pass PREDICTIONS REFERENCES, or both with their old options, not one of each")
        if named is not None:
            setattr(arguments, side, named)
            if not arguments.quiet:
                log(f"brats-seg: note: --{side} is not needed any more: brats-seg evaluate PREDICTIONS REFERENCES")
        if getattr(arguments, side) is None:
            raise UsageError(f"no {side} given: pass PREDICTIONS and REFERENCES. See: brats-seg evaluate --help")


def refuse_other_results(folder: Path, page: str) -> None:
    """Keep ``--overwrite`` from replacing what another command wrote, a segmentation for example.

    Raises:
        OutputError: if the folder is a whole result of this program without the page named.
    """
    from brats_seg.files.output import read_run

    outputs = (read_run(folder) or {}).get("outputs")
    if isinstance(outputs, dict) and page not in outputs:
        raise OutputError(f"{folder} holds another command's results (no {page}). Choose another folder with -o.")


def _unmatched(matches: LabelMatches, which: str) -> Failures:
    """Ids that one side alone has."""
    lonely = f"there is a label map among the {which} and none among the references. Leave it out, or name both alike."
    missing = f"the reference has no label map among the {which}. Segment this study too, or leave its reference out."
    return [
        *((name, InputError(lonely)) for name in matches.only_predictions),
        *((name, InputError(missing)) for name in matches.only_references),
    ]


def _evaluate(
    arguments: argparse.Namespace, matches: LabelMatches, which: str, failures: Failures
) -> tuple[Evaluation, _Gathered] | None:
    """Evaluate one set of predictions; None if not one case could be read."""
    gathered = _Gathered()
    with progress(f"evaluate {which}", len(matches.pairs) + 1, hidden=arguments.quiet, lines=True, left=True) as tick:
        tick("loading libraries")
        import numpy as np

        from brats_seg.evaluate.evaluate import evaluate_pairs

        schemas = (arguments.schema_predictions, arguments.schema_references)
        cases = _cases(matches, schemas, gathered, tick, resample=arguments.resample)
        evaluation = None
        opening = next(cases, None)
        if opening is not None:
            generator = np.random.default_rng(_SEED)
            evaluation = evaluate_pairs(
                _again(opening, cases), generator=generator, missing=lambda: _missing(matches, gathered)
            )
            gathered.warnings = [*_trained_on(evaluation), *_copies(gathered), *gathered.warnings]
    failures += gathered.failures
    return None if evaluation is None else (evaluation, gathered)


def _missing(matches: LabelMatches, gathered: _Gathered) -> list[str]:
    """Studies with a reference and no prediction that could be judged."""
    unread = (name for name, error in gathered.failures if not str(error).startswith("reference:"))
    return sorted({*matches.only_references, *unread})


def _trained_on(evaluation: Evaluation) -> list[str]:
    """A warning where the model knew studies it is judged by."""
    known = list(dict.fromkeys(evaluation.cases.loc[evaluation.cases["trained_on"].isin([True]), "case"]))
    if not known:
        return []
    shown = ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
    rest = len(evaluation.case_ids) - len(known)
    means = f'means "not trained on" are of the other {rest}' if rest else "no case tells how accurate it is"
    return [f"the model was trained on {len(known)} of {len(evaluation.case_ids)} cases ({shown}); {means}"]


def _copies(gathered: _Gathered) -> list[str]:
    """A warning for each label map that is the prediction of several cases."""
    several = (cases for cases in gathered.filled.values() if len(cases) > 1)
    return [f"the predictions of {', '.join(cases)} are copies of one file" for cases in several]


def _schemas_read(gathered: _Gathered) -> str:
    """What the numbers of each side were read as."""
    found = {side: {read[f"{side.removesuffix('s')}_schema"] for read in gathered.inputs.values()} for side in SIDES}
    return "label numbers: " + ", ".join(f"{side} {' and '.join(sorted(names))}" for side, names in found.items())


def _again(first: CasePair, rest: Iterator[CasePair]) -> Iterator[CasePair]:
    yield first
    del first
    yield from rest


def _cases(
    matches: LabelMatches,
    schemas: tuple[str, str],
    gathered: _Gathered,
    tick: Callable[[str], None],
    *,
    resample: bool,
) -> Iterator[CasePair]:
    """Read one pair after the other; what cannot be read is noted and passed over."""
    for pair in matches.pairs:
        tick(pair.id)
        case = attempt(pair.id, partial(_read, pair, schemas, gathered, resample=resample), gathered.failures)
        if case is not None:
            yield case
        del case


def _read(pair: LabelPair, schemas: tuple[str, str], gathered: _Gathered, *, resample: bool) -> CasePair:
    from brats_seg.evaluate.cases import CasePair
    from brats_seg.evaluate.placing import placed
    from brats_seg.files.match_labels import probabilities_beside, scan_beside
    from brats_seg.files.names import is_nifti
    from brats_seg.files.sidecar import read_trained_on
    from brats_seg.imaging.placing import widened
    from brats_seg.models.card import regions_of

    if pair.prediction.resolve() == pair.reference.resolve():
        raise InputError("prediction and reference are one and the same file. Check what was passed.")
    prediction = _mask(pair, "predictions", schemas[0], regions_of)
    regions = prediction.segmentation.regions
    reference = _mask(pair, "references", schemas[1], lambda: regions)
    beside = probabilities_beside(pair.prediction)
    scan = scan_beside(pair.reference)
    truth = reference.segmentation.labels
    if not is_nifti(pair.reference.name):
        truth = placed(truth, widened(truth.grid, prediction.segmentation.labels.grid), "reference").volume
    grid = truth.grid
    lying = placed(prediction.segmentation.labels, grid, "prediction", order=0 if resample else None)
    case = CasePair(
        case=pair.id,
        prediction=lying.volume,
        reference=truth,
        regions=regions,
        prediction_schema=prediction.segmentation.schema,
        reference_schema=reference.segmentation.schema,
        probabilities=_probabilities(beside, grid, regions, resample=resample) if beside else None,
        image=_background(scan, grid, pair.id, gathered) if scan else None,
        trained_on=read_trained_on(pair.prediction),
    )
    gathered.warnings += [f"{pair.id}: {words}" for words in _doubts(pair, case, (prediction, reference))]
    gathered.notes += [f"{pair.id}: {lying.note}"] if lying.note else []
    if prediction.segmentation.labels.data.any():
        gathered.filled.setdefault(prediction.sha256, []).append(pair.id)
    gathered.inputs[pair.id] = {
        "prediction_sha256": prediction.sha256,
        "prediction_schema": prediction.segmentation.schema.name,
        "reference_sha256": reference.sha256,
        "reference_schema": reference.segmentation.schema.name,
        "probabilities": "judged" if beside else "none",
        "trained_on_this_study": {True: "yes", False: "no", None: "not known"}[case.trained_on],
        "paired": pair.why or "by their ids",
    }
    return case


def _doubts(pair: LabelPair, case: CasePair, read: tuple[MaskReading, MaskReading]) -> Iterator[str]:
    """What makes the scores of a case worth less than they look."""
    if read[0].sha256 == read[1].sha256:
        yield "prediction and reference are copies of one file, byte for byte"
    if pair.why:
        yield pair.why
    for side, reading in zip(SIDES, read, strict=True):
        yield from (f"{side.removesuffix('s')}: {words}" for words in reading.warnings)
    left = [region.name for region in case.regions if region not in case.told]
    if left:
        names = " and ".join(dict.fromkeys(reading.segmentation.schema.name for reading in read))
        yield f"{', '.join(left)} not scored: label maps of {names} do not both tell it"


def _probabilities(path: Path, grid: Grid, regions: RegionSet, *, resample: bool) -> RegionMaps:
    """The probabilities beside a prediction, on the grid of the reference."""
    import numpy as np

    from brats_seg.core.grid import Volume
    from brats_seg.core.visit import RegionMaps
    from brats_seg.evaluate.placing import placed
    from brats_seg.files.probabilities import read_probabilities

    found = read_probabilities(path, regions)
    if found.grid.same_as(grid):
        return found
    order = 1 if resample else None
    channels = [
        placed(Volume(channel, found.grid), grid, "probabilities", order=order).volume.data for channel in found.array
    ]
    return RegionMaps(np.stack(channels), grid, regions)


def _mask(pair: LabelPair, side: str, schema: str, asked: Callable[[], RegionSet]) -> MaskReading:
    from brats_seg.files.label_map import read_mask
    from brats_seg.files.study_id import check_study_id

    check_study_id(pair.id, source="the file's name")
    try:
        path = pair.prediction if side == "predictions" else pair.reference
        return read_mask(path, schema, pair.id, asked)
    except InputError as error:
        words = error.words.replace("--schema", f"--schema-{side}")
        raise InputError(f"{side.removesuffix('s')}: {words}") from error


def _background(scan: Path, grid: Grid, case: str, gathered: _Gathered) -> Volume | None:
    """The scan for pictures; one that cannot serve is noted, for no score depends on it."""
    from brats_seg.files.nifti import read_volume

    try:
        image = read_volume(scan)
    except InputError as error:
        gathered.notes.append(f"{case}: pictures without a scan behind them: {error}")
        return None
    if not image.grid.same_as(grid):
        gathered.notes.append(
            f"{case}: pictures without a scan behind them: it lies on another grid than the label map"
        )
        return None
    return image


def _compare(first: Evaluation, second: Evaluation) -> pd.DataFrame:
    """Both models on the cases that both have."""
    import numpy as np

    from brats_seg.evaluate.evaluate import compare_evaluations

    common = set(first.case_ids) & set(second.case_ids)
    if not common:
        raise InputError("the two models have no case in common, so there is nothing to compare. Check --compare.")
    a, b = (replace(e, cases=e.cases[e.cases["case"].isin(common)]) for e in (first, second))
    return compare_evaluations(a, b, generator=np.random.default_rng(_SEED))


def _write(
    arguments: argparse.Namespace,
    folder: Path,
    results: tuple[tuple[Evaluation, _Gathered], tuple[Evaluation, _Gathered] | None],
    comparison: pd.DataFrame | None,
    failures: Failures,
) -> None:
    """Tables, page and record; the record comes last, because it makes the folder count as finished."""
    from brats_seg.evaluate.evaluate import frame_records, frame_to_csv
    from brats_seg.evaluate.page import evaluation_html
    from brats_seg.files.output import file_hashes, write_text
    from brats_seg.files.tables import write_json
    from brats_seg.models.record import versions

    (evaluation, gathered), second = results
    content = json.loads(evaluation.to_json())
    for name, text in evaluation.to_csv().items():
        write_text(folder / f"{name}.csv", text)
    if second is not None and comparison is not None:
        for name, text in second[0].to_csv().items():
            write_text(folder / f"compared_{name}.csv", text)
        write_text(folder / "comparison.csv", frame_to_csv(comparison))
        content |= {"compared": json.loads(second[0].to_json()), "comparison": frame_records(comparison)}
    write_json(content, folder / TABLES)
    title = f"{_title(arguments.predictions)} against {_title(arguments.references)}"
    if second is not None:
        title += f"; second model: {_title(arguments.compare)}"
    left_out = [f"{name}: {error}" for name, error in failures]
    warnings = [*gathered.warnings, *(second[1].warnings if second else ())]
    page = evaluation_html(
        evaluation, title=title, comparison=comparison, warnings=[*warnings, *gathered.notes], left_out=left_out
    )
    write_text(folder / REPORT, page)
    record = {
        "versions": versions(),
        "settings": {
            "schema_predictions": arguments.schema_predictions,
            "schema_references": arguments.schema_references,
            "resample": arguments.resample,
            "seed": _SEED,
        },
        "inputs": {"predictions": gathered.inputs, "compared": second[1].inputs if second else {}},
        "warnings": warnings,
        "notes": gathered.notes,
        "failed": failures_as_json(failures),
        "outputs": file_hashes(folder),
    }
    write_json(record, folder / "run.json")


def _title(place: Path) -> str:
    return place.resolve().name


def _means(evaluation: Evaluation) -> list[dict[str, Any]]:
    from brats_seg.evaluate.evaluate import ALL_CASES, MISSING_AS_ZERO, UNSEEN_CASES, frame_records

    table = evaluation.summary
    kept = table["subset"].isin([ALL_CASES, MISSING_AS_ZERO, UNSEEN_CASES])
    return frame_records(table[kept & table["metric"].isin([name for name, _, _ in _PRINTED])])


def _summary(
    evaluation: Evaluation, comparison: pd.DataFrame | None, failures: Failures, folder: Path, gathered: _Gathered
) -> dict[str, Any]:
    from brats_seg.evaluate.evaluate import frame_records

    return {
        "cases": len(evaluation.case_ids),
        "folder": str(folder),
        "report": str(folder / REPORT),
        "summary": _means(evaluation),
        "comparison": None if comparison is None else frame_records(comparison),
        "warnings": gathered.warnings,
        "failed": failures_as_json(failures),
    }


def _text(
    evaluation: Evaluation, comparison: pd.DataFrame | None, folder: Path, gathered: _Gathered, *, verbose: bool
) -> str:
    from brats_seg.evaluate.evaluate import ALL_CASES
    from brats_seg.evaluate.page import better_words, empty_words

    count = len(evaluation.case_ids)
    means = _means(evaluation)
    has_intervals = any(row["low"] is not None for row in means)
    words = "mean (95 % interval over patients), median" if has_intervals else "mean, median"
    lines = [f"warning: {line}" for line in gathered.warnings]
    lines += [f"note: {line}" for line in gathered.notes]
    lines += [_schemas_read(gathered), f"{counted(count, 'case')}; {words}"]
    decimals = {name: (title, places) for name, title, places in _PRINTED}
    subset = ALL_CASES
    for row in means:
        if row["subset"] != subset:
            subset = row["subset"]
            lines.append(f"{subset}: {counted(row['cases'], 'case')}")
        title, places = decimals[row["metric"]]
        mean, low, high, median = (_number(row[key], places) for key in ("mean", "low", "high", "median"))
        between = "" if row["low"] is None else f" ({low} to {high})"
        lines.append(f"  {row['region']} {title:17} {mean:>8}{between}, {median}")
    lines += [f"  {line}" for line in empty_words(evaluation.summary[evaluation.summary["subset"] == ALL_CASES])]
    if verbose:
        columns = [name for name, _, _ in _PRINTED]
        for _, case in evaluation.cases.iterrows():
            shown = ", ".join(f"{decimals[c][0]} {_number(case[c], decimals[c][1])}" for c in columns)
            lines.append(f"  {case['case']} {case['region']}: {shown}")
    if comparison is not None:
        lines.append("second model minus first, same cases:")
        for _, test in comparison.iterrows():
            title, places = decimals[test["metric"]]
            difference, p = _number(test["mean_difference"], places), _number(test["p_holm"], 4)
            tested = f", p {p} (Holm)" if math.isfinite(test["p_value"]) else ""
            lines.append(f"  {test['region']} {title:17} {difference:>8}{tested}: {better_words(test)}")
    lines.append(f"  tables:  {folder}")
    lines.append(f"  look at: {folder / REPORT}")
    return "\n".join(lines)


def _number(value: float | None, places: int) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{places}f}"
