"""The whole table of one study: rows, notes, intervals, and real label maps to the voxel."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import pytest
from glioma import ET, REGIONS, TC, WT
from scipy import ndimage

from brats_seg.core.errors import InputError
from brats_seg.core.grid import Grid, Volume
from brats_seg.core.labels import SCHEMAS
from brats_seg.core.study import MRSequence
from brats_seg.core.visit import RegionMaps, Segmentation
from brats_seg.volumetrics.intervals import IntervalModel
from brats_seg.volumetrics.measure import ambiguous_volumes_ml, joined_measure, measure_segmentation
from tests.volumetrics.objects import grid_of, sphere, world_points

GRID = grid_of("LPS", (1, 1, 2), (6, -4, 9), extent_mm=56)
MODEL = IntervalModel({"WT": 1.0, "TC": 1.0, "ET": 1.0, "NCR": 1.0, "ED": 1.0})


def tumour(schema_name: str = "brats2023", grid: Grid = GRID) -> np.ndarray:
    """Edema of 20 mm, a rim of 14 mm around necrosis of 8 mm radius."""
    points = world_points(grid)
    masks = {WT: sphere(20)(points), TC: sphere(14)(points)}
    masks[ET] = masks[TC] & ~sphere(8)(points)
    return REGIONS.compose(masks, SCHEMAS[schema_name])


def segmentation(
    labels: np.ndarray,
    *,
    schema_name: str = "brats2023",
    soft: bool = True,
    missing: tuple[MRSequence, ...] = (),
    grid: Grid = GRID,
) -> Segmentation:
    schema = SCHEMAS[schema_name]
    probabilities = None
    if soft:
        channels = [ndimage.gaussian_filter(schema.region_mask(labels, r).astype(np.float32), 0.7) for r in REGIONS]
        probabilities = RegionMaps(np.clip(np.stack(channels), 0, 1), grid, REGIONS)
    return Segmentation("made", Volume(labels, grid), schema, REGIONS, probabilities, missing)


def test_rows_of_a_tumour() -> None:
    found = measure_segmentation(segmentation(tumour()), intervals=MODEL)
    assert [row.region for row in found.volumes] == ["WT", "TC", "ET", "NCR", "ED"]
    for row in found.volumes:
        assert row.volume_pv_ml == pytest.approx(row.volume_ml, rel=0.03)
        assert row.low_ml is not None
        assert row.high_ml is not None
        assert 0 < row.low_ml < row.volume_ml < row.high_ml
        assert row.level == 0.9
        assert row.lesions == 1
        assert not row.touches_border
        assert row.note == ""
    volumes = {row.region: row.volume_ml for row in found.volumes}
    assert volumes["WT"] == pytest.approx(volumes["TC"] + volumes["ED"])
    assert volumes["TC"] == pytest.approx(volumes["ET"] + volumes["NCR"])
    assert volumes["WT"] == pytest.approx(4 / 3 * np.pi * 20**3 / 1000, rel=0.02)
    assert [lesion.region for lesion in found.lesions] == ["WT", "TC", "ET"]
    # The rim is measured over its necrosis, so as long as the core.
    core, rim = found.lesions_of("TC")[0].diameters, found.lesions_of("ET")[0].diameters
    assert rim == core
    assert rim.long_mm == pytest.approx(28, abs=1)
    assert found.notes == ()
    assert found.spacing_mm == GRID.spacing_mm


def test_answers_are_on_the_whole_grid() -> None:
    """The inner crop must not show."""
    labels = tumour()
    found = measure_segmentation(segmentation(labels, soft=False))
    lesion = found.lesions_of("WT")[0]
    where = np.argwhere(labels)
    assert lesion.box == (tuple(where.min(0)), tuple(where.max(0)))
    np.testing.assert_allclose(lesion.centroid_mm, GRID.to_world(where.mean(0)), atol=1e-6)
    middle = GRID.to_voxel(np.mean(lesion.diameters.long_ends_mm, axis=0))
    assert middle[lesion.diameters.axis] == pytest.approx(lesion.diameters.slice_index)
    assert labels[tuple(np.round(middle).astype(int))] > 0


def test_without_probabilities_or_model_the_interval_is_not_known() -> None:
    for given, intervals, words in (
        (segmentation(tumour(), soft=False), MODEL, "without probabilities"),
        (segmentation(tumour()), None, "no fitted intervals"),
    ):
        found = measure_segmentation(given, intervals=intervals)
        assert all(row.low_ml is row.high_ml is row.level is None for row in found.volumes)
        assert any(words in note for note in found.notes)
        assert all((row.volume_pv_ml is None) == (given.probabilities is None) for row in found.volumes)
    partly = measure_segmentation(segmentation(tumour()), intervals=IntervalModel({"WT": 1.0}))
    assert partly.volume("WT").high_ml is not None
    assert partly.volume("ED").high_ml is None
    assert any("TC, ET, NCR, ED" in note for note in partly.notes)


def test_empty_segmentation_says_how_much_may_be_missed() -> None:
    found = measure_segmentation(segmentation(np.zeros(GRID.shape, np.uint8)), intervals=MODEL)
    for row in found.volumes:
        assert (row.volume_ml, row.volume_pv_ml, row.low_ml, row.lesions) == (0, 0, 0, 0)
        assert row.high_ml is not None
        assert row.high_ml > 0
        assert not row.touches_border
    assert found.lesions == ()


def test_without_t1ce_enhancement_is_an_estimate() -> None:
    found = measure_segmentation(segmentation(tumour(), missing=(MRSequence.T1CE,)), intervals=MODEL)
    noted = {row.region for row in found.volumes if row.note == "estimate: not assessable without T1CE"}
    assert noted == {"TC", "ET", "NCR"}
    assert any("T1CE" in note for note in found.notes)
    other = measure_segmentation(segmentation(tumour(), missing=(MRSequence.T2,)), intervals=MODEL)
    for measured, name in ((found, "T1CE"), (other, "T2")):
        assert all(row.low_ml is None and row.high_ml is None and row.level is None for row in measured.volumes)
        assert any(note.startswith(f"volume intervals are not known without {name}") for note in measured.notes)
    assert all(row.note == "" for row in other.volumes)


def test_scans_that_do_not_fit_together_get_no_interval() -> None:
    found = measure_segmentation(segmentation(tumour()), intervals=MODEL, fits=False)
    assert all(row.low_ml is row.high_ml is row.level is None for row in found.volumes)
    assert [note for note in found.warnings if "intervals" in note and "fit together" in note] == list(found.notes)


def test_border_is_flagged_and_measured() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[:6, 10:20, 10:20] = 2
    found = measure_segmentation(segmentation(labels, soft=False))
    assert found.volume("WT").touches_border
    assert found.volume("WT").volume_ml == pytest.approx(600 * GRID.voxel_ml)
    assert not found.volume("ET").touches_border
    assert found.lesions_of("WT")[0].touches_border
    assert any("reaches the edge" in note for note in found.notes)


def test_cavity_is_a_row_of_its_own_and_no_chord_crosses_it() -> None:
    labels = tumour("brats2024")
    inner = sphere(11)(world_points(GRID))
    with_necrosis = labels.copy()
    with_necrosis[inner] = SCHEMAS["brats2024"].number(
        next(s for s in SCHEMAS["brats2024"].structures if s.name == "NCR")
    )
    labels[inner] = 4
    found = measure_segmentation(segmentation(labels, schema_name="brats2024", soft=False))
    assert [row.region for row in found.volumes] == ["WT", "TC", "ET", "NCR", "ED", "RC"]
    assert len(found.lesions_of("RC")) == 1
    # A line in a ring of 14 and 11 mm that touches the hole on the widest slice: 2 sqrt(14^2 - 11^2) = 17.3. Near
    # a tangent half a voxel of either edge makes a voxel and a half of length.
    assert found.lesions_of("ET")[0].diameters.long_mm == pytest.approx(2 * np.sqrt(14**2 - 11**2), abs=2)
    crossing = measure_segmentation(segmentation(with_necrosis, schema_name="brats2024", soft=False))
    assert crossing.lesions_of("ET")[0].diameters.long_mm == pytest.approx(28, abs=1)


def test_schema_without_enhancement_says_so() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[20:30, 20:30, 10:14] = 1
    found = measure_segmentation(segmentation(labels, schema_name="menrt", soft=False))
    assert [row.region for row in found.volumes] == ["WT", "TC", "ET", "GTV"]
    assert "not part of the label schema menrt" in found.volume("ET").note
    assert found.volume("WT").volume_ml == found.volume("GTV").volume_ml > 0


def test_structures_the_channels_do_not_tell_have_no_probability() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[20:30, 20:30, 10:14] = 3
    found = measure_segmentation(segmentation(labels, schema_name="brats2015"), intervals=MODEL)
    assert found.volume("NET").volume_pv_ml is None
    assert found.volume("NCR").volume_pv_ml is None
    assert found.volume("ED").volume_pv_ml == 0
    assert found.volume("WT").volume_pv_ml is not None


def test_ambiguous_volumes_are_what_intervals_use() -> None:
    given = segmentation(tumour())
    ambiguous = ambiguous_volumes_ml(given)
    assert set(ambiguous) == {"WT", "TC", "ET", "NCR", "ED"}
    row = measure_segmentation(given, intervals=MODEL).volume("TC")
    assert MODEL.interval("TC", row.volume_ml, ambiguous["TC"]) == (row.low_ml, row.high_ml)
    with pytest.raises(InputError, match="made"):
        ambiguous_volumes_ml(segmentation(tumour(), soft=False))


def read_labels(path: Path) -> Segmentation:
    import nibabel

    image = nibabel.load(path)  # type: ignore[attr-defined]
    volume = Volume.from_affine(np.asarray(image.dataobj).astype(np.uint8), image.affine)
    return Segmentation("real", volume, SCHEMAS["brats2023" if "GLI" in path.name else "brats2021"], REGIONS)


@pytest.mark.slow
def test_real_volumes_to_the_voxel(real_data: Path) -> None:
    with (real_data / "cases.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    chosen = [row for folder in ("studies", "training") for row in [r for r in rows if r["folder"] == folder][:3]]
    assert len(chosen) == 6
    for row in chosen:
        (path,) = (real_data / row["folder"] / row["case"]).glob("*seg.nii.gz")
        given = read_labels(path)
        start = time.process_time()
        found = measure_segmentation(given)
        elapsed_s = time.process_time() - start
        for region in REGIONS:
            volume_ml = found.volume(region).volume_ml
            assert round(volume_ml * 1000, 3) == float(row[f"{region.name.lower()}_mm3"])
            assert sum(lesion.volume_ml for lesion in found.lesions_of(region)) == pytest.approx(volume_ml)
        for lesion in found.lesions:
            assert lesion.diameters.axis == 2
            assert 0 < lesion.diameters.short_mm <= lesion.diameters.long_mm
        assert elapsed_s < 1.0


def test_real_diameters_do_not_depend_on_storage(real_study: Path) -> None:
    (path,) = real_study.glob("*seg.nii.gz")
    given = read_labels(path)
    turned = given.labels.flip(0).permute((2, 0, 1)).flip(1)
    expected = measure_segmentation(given)
    found = measure_segmentation(Segmentation("real", turned, given.schema, REGIONS))
    assert len(found.lesions) == len(expected.lesions)
    for a, b in zip(found.lesions, expected.lesions, strict=True):
        assert (a.diameters.long_mm, a.diameters.short_mm) == pytest.approx(
            (b.diameters.long_mm, b.diameters.short_mm), abs=1e-4
        )
        assert (a.volume_ml, a.measurable) == (pytest.approx(b.volume_ml), b.measurable)


def uneven_tumour(grid: Grid) -> Segmentation:
    """An uneven rim around necrosis, long along the body, which a sagittal slice shows otherwise than an axial one."""
    points = world_points(grid) - (1.3, -2.1, 0.7)
    distance = np.linalg.norm(points / (1.0, 1.35, 2.0), axis=-1)
    direction = points / np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-6)
    radius = 11 + 1.6 * np.sin(3 * direction[..., 0] + 2 * direction[..., 1]) + 1.2 * np.cos(5 * direction[..., 2])
    labels = np.where(distance < 0.65 * radius, 1, np.where(distance < radius, 3, 0)).astype(np.uint8)
    return Segmentation("made", Volume(labels, grid), SCHEMAS["brats2023"], REGIONS)


@pytest.mark.slow
def test_diameters_do_not_depend_on_nearly_equal_spacings_and_storage() -> None:
    rng = np.random.default_rng(5)
    products = []
    for number in range(12):
        x, y, z = rng.uniform(0.92, 1.08, 3)
        stored = ("RAS", "ASL", "SPR")[number % 3]
        spacing = {"R": x, "L": x, "A": y, "P": y, "S": z}
        grid = grid_of(stored, tuple(spacing[letter] for letter in stored), extent_mm=58)
        segmentation = uneven_tumour(grid)
        (lesion,) = measure_segmentation(segmentation).lesions_of("ET")
        joined, measurable = joined_measure(segmentation, ET, gap_mm=2.0)(segmentation.region_mask(ET))
        assert lesion.measurable and measurable and lesion.diameters.plane == joined.plane == "axial"
        products.append([found.long_mm * found.short_mm for found in (lesion.diameters, joined)])
    spread = np.ptp(products, axis=0) / np.median(products, axis=0)
    assert spread.max() < 0.08
