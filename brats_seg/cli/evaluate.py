"""``brats-seg evaluate``: predictions against an expert's label maps, and two models against each other."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.cli.common import (
    Failures,
    attempt,
    exists_policy,
    failures_as_json,
    log,
    open_page,
    progress,
    refuse_other_results,
    report_failures,
    tell,
)
from brats_seg.cli.options import add, add_console
from brats_seg.core.errors import InputError, UsageError
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.words import Tick, counted, some

if TYPE_CHECKING:
    import pandas as pd

    from brats_seg.evaluate.cases import CasePair
    from brats_seg.evaluate.evaluate import Evaluation
    from brats_seg.evaluate.reading import Gathered
    from brats_seg.files.match_labels import LabelMatches

REPORT = "evaluation.html"
TABLES = "evaluation.json"
HELP = "compare predictions with an expert's label maps, or two models with each other"
DESCRIPTION = (
    "Dice, distances, lesion-wise scores, detection, agreement of volumes and calibration of every\n"
    f"study; tables (CSV, {TABLES}) and {REPORT} go to OUT."
)
EPILOG = f"""\
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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to the command."""
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


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, compare where asked for, write, print."""
    from brats_seg.files.match_labels import match_places
    from brats_seg.files.output import OutputFolder

    _take_named(arguments)
    matches = match_places(arguments.predictions, arguments.references)
    compared = match_places(arguments.compare, arguments.references) if arguments.compare else None
    refuse_other_results(arguments.output, REPORT)
    failures = _unmatched(matches, "predictions") + (_unmatched(compared, "comparison") if compared else [])
    with OutputFolder(arguments.output, exists=exists_policy(arguments)) as folder:
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
    made = _summary(evaluation, comparison, failures, folder.final, first[1])
    tell(arguments, made, _text(evaluation, comparison, folder.final, first[1], verbose=arguments.verbose))
    if arguments.open:
        open_page(folder.final / REPORT)
    return report_failures(failures, finished=len(evaluation.case_ids))


def _take_named(arguments: argparse.Namespace) -> None:
    """Take ``--predictions A --references B``, as the command was written at first, for ``A B``."""
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
) -> tuple[Evaluation, Gathered] | None:
    """Evaluate one set of predictions; None if not one case could be read."""
    with progress(f"evaluate {which}", len(matches.pairs) + 1, hidden=arguments.quiet, lines=True, left=True) as tick:
        tick("loading libraries")
        import numpy as np

        from brats_seg.evaluate import reading
        from brats_seg.evaluate.evaluate import evaluate_pairs

        gathered = reading.Gathered()
        schemas = (arguments.schema_predictions, arguments.schema_references)
        cases = _cases(matches, schemas, gathered, tick, resample=arguments.resample)
        evaluation = None
        opening = next(cases, None)
        if opening is not None:
            generator = np.random.default_rng(_SEED)
            evaluation = evaluate_pairs(
                chain((opening,), cases), generator=generator, missing=lambda: _missing(matches, gathered)
            )
            gathered.warnings = [*_trained_on(evaluation), *_copies(gathered), *gathered.warnings]
    failures += gathered.failures
    return None if evaluation is None else (evaluation, gathered)


def _missing(matches: LabelMatches, gathered: Gathered) -> list[str]:
    """Studies with a reference and no prediction that could be judged."""
    unread = (name for name, error in gathered.failures if not str(error).startswith("reference:"))
    return sorted({*matches.only_references, *unread})


def _trained_on(evaluation: Evaluation) -> list[str]:
    """A warning where the model knew studies it is judged by."""
    known = list(dict.fromkeys(evaluation.cases.loc[evaluation.cases["trained_on"].isin([True]), "case"]))
    if not known:
        return []
    shown = some(known, 5)
    rest = len(evaluation.case_ids) - len(known)
    means = f'means "not trained on" are of the other {rest}' if rest else "no case tells how accurate it is"
    return [f"the model was trained on {len(known)} of {len(evaluation.case_ids)} cases ({shown}); {means}"]


def _copies(gathered: Gathered) -> list[str]:
    """A warning for each label map that is the prediction of several cases."""
    several = (cases for cases in gathered.filled.values() if len(cases) > 1)
    return [f"the predictions of {', '.join(cases)} are copies of one file" for cases in several]


def _cases(
    matches: LabelMatches,
    schemas: tuple[str, str],
    gathered: Gathered,
    tick: Tick,
    *,
    resample: bool,
) -> Iterator[CasePair]:
    """Read one pair after the other; what cannot be read is noted and passed over."""
    from brats_seg.evaluate.reading import read_pair
    from brats_seg.models.card import regions_of

    for pair in matches.pairs:
        tick(pair.id)
        read = partial(read_pair, pair, schemas, gathered, regions_of, resample=resample)
        case = attempt(pair.id, read, gathered.failures)
        if case is not None:
            yield case
        del case


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
    results: tuple[tuple[Evaluation, Gathered], tuple[Evaluation, Gathered] | None],
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
    title = f"{arguments.predictions.resolve().name} against {arguments.references.resolve().name}"
    if second is not None:
        title += f"; second model: {arguments.compare.resolve().name}"
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


def _means(evaluation: Evaluation) -> list[dict[str, Any]]:
    from brats_seg.evaluate.evaluate import ALL_CASES, MISSING_AS_ZERO, UNSEEN_CASES, frame_records

    table = evaluation.summary
    kept = table["subset"].isin([ALL_CASES, MISSING_AS_ZERO, UNSEEN_CASES])
    return frame_records(table[kept & table["metric"].isin([name for name, _, _ in _PRINTED])])


def _summary(
    evaluation: Evaluation, comparison: pd.DataFrame | None, failures: Failures, folder: Path, gathered: Gathered
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
    evaluation: Evaluation, comparison: pd.DataFrame | None, folder: Path, gathered: Gathered, *, verbose: bool
) -> str:
    from brats_seg.evaluate.evaluate import ALL_CASES
    from brats_seg.evaluate.page import better_words, empty_words

    count = len(evaluation.case_ids)
    means = _means(evaluation)
    has_intervals = any(row["low"] is not None for row in means)
    words = "mean (95 % interval over patients), median" if has_intervals else "mean, median"
    lines = [f"warning: {line}" for line in gathered.warnings]
    lines += [f"note: {line}" for line in gathered.notes]
    read = {side: {r[f"{side.removesuffix('s')}_schema"] for r in gathered.inputs.values()} for side in SIDES}
    lines.append("label numbers: " + ", ".join(f"{side} {' and '.join(sorted(names))}" for side, names in read.items()))
    lines.append(f"{counted(count, 'case')}; {words}")
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
