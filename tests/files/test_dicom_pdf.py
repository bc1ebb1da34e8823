"""The report as a DICOM document: PDF read back by a reader of others, a header without an error, no identity in it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pydicom
import pytest
from dicom_files import Exam, datasets
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom.uid import generate_uid
from test_dicom import oblique
from test_dicom_seg import MAKER, WHOLE_HEADER, errors_of, series_of

from brats_seg.files.dicom_pdf import TITLE, encapsulated_pdf
from brats_seg.files.dicom_reference import reference_of, save
from brats_seg.files.dicom_series import find_exams
from brats_seg.report.pages import section, sections_page, soft, table
from brats_seg.report.pdf import pdf_of


def needed_module(name: str) -> None:
    """A test that lacks a module skips, and fails in CI, which installs it."""
    if not os.environ.get("CI"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra: dev)")


def pages_of(document: bytes) -> list[str]:
    """The text of each page."""
    needed_module("pypdf")
    from pypdf import PdfReader

    return [page.extract_text() for page in PdfReader(io.BytesIO(document)).pages]


def long_page(rows: int) -> str:
    body = table(("Lesion", "Volume, ml"), [(f"lesion {row}", str(row)) for row in range(rows)])
    return sections_page("case", "", [section("Lesions", soft("Größe & Zahl"), body)])


@pytest.mark.slow
def test_a_page_becomes_pdf_with_its_text_and_numbered_pages() -> None:
    needed_module("weasyprint")
    document = pdf_of(long_page(120))
    assert document.startswith(b"%PDF-")
    pages = pages_of(document)
    assert len(pages) > 1
    assert "Größe & Zahl" in pages[0]
    assert all(f"{number} of {len(pages)}" in page for number, page in enumerate(pages, start=1))
    assert all("Volume, ml" in page for page in pages), "a table goes on with its head"
    found = " ".join(pages)
    assert all(f"lesion {row}" in found for row in range(120))


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    needed_module("weasyprint")
    (tmp_path / "secret.css").write_text("body::before { content: 'from a file' }")
    page = long_page(2).replace(
        "</head>", f'<link rel="stylesheet" href="{(tmp_path / "secret.css").as_uri()}"></head>'
    )
    assert "from a file" not in pages_of(pdf_of(page))[0]


@pytest.mark.parametrize("length", [1000, 1001])
def test_the_object_is_the_patients_and_holds_the_document_byte_for_byte(tmp_path: Path, length: int) -> None:
    document = b"%PDF-1.7\n".ljust(length, b"x")  # of odd length too, which DICOM pads
    reference = reference_of(series_of(oblique(), tmp_path / "in"))
    save(encapsulated_pdf(document, reference, MAKER), tmp_path / "report.dcm")
    assert errors_of(tmp_path / "report.dcm") == []
    made = pydicom.dcmread(tmp_path / "report.dcm")
    image = pydicom.dcmread(next((tmp_path / "in").iterdir()))
    assert made.EncapsulatedDocument[: made.EncapsulatedDocumentLength] == document
    assert (made.Modality, made.MIMETypeOfEncapsulatedDocument, made.DocumentTitle) == ("DOC", "application/pdf", TITLE)
    assert made.BurnedInAnnotation == "NO"
    for name in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "StudyDate"):
        assert made[name].value == image[name].value, name
    assert made.SeriesInstanceUID != image.SeriesInstanceUID
    assert made.SeriesNumber != image.SeriesNumber
    sources = [item.ReferencedSOPInstanceUID for item in made.SourceInstanceSequence]
    assert sorted(sources) == sorted(pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "in").iterdir())


def test_the_source_is_one_file_where_images_are_frames(tmp_path: Path) -> None:
    images = datasets(oblique(), Exam(), number=4, attributes=WHOLE_HEADER)
    LegacyConvertedEnhancedMRImage(images, generate_uid(), 7, generate_uid(), 1).save_as(tmp_path / "IM1")
    made = encapsulated_pdf(b"%PDF-1.7 ", reference_of(find_exams(tmp_path)[0].series[0]), MAKER)
    (source,) = made.SourceInstanceSequence
    assert source.ReferencedSOPInstanceUID == pydicom.dcmread(tmp_path / "IM1").SOPInstanceUID
    assert "ReferencedFrameNumber" not in source
