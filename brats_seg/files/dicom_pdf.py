"""A page in PDF as a DICOM object (Encapsulated PDF, PS3.3 A.45.1), for a PACS that shows documents."""

from __future__ import annotations

from datetime import datetime

from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes

from brats_seg.files.dicom_reference import Maker, Reference, item, new_object, writing
from brats_seg.files.dicom_seg import SEG_SERIES

_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.104.1"
_SERIES = SEG_SERIES + 4000
TITLE = "Brain tumour report"


def encapsulated_pdf(document: bytes, reference: Reference, maker: Maker) -> Dataset:
    """A report that holds nothing of the patient's identity, in the patient's study.

    Args:
        reference: the series that results lie on.

    Raises:
        OutputError: if none can be made of the header of the series.
    """
    with writing("encapsulated PDF"):
        made = new_object(reference, maker, _SOP_CLASS, "DOC", number=_SERIES, title=TITLE)
        now = datetime.now()
        made.ConversionType = "WSD"  # workstation
        made.ContentDate, made.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        made.AcquisitionDateTime = ""  # of no single image
        made.BurnedInAnnotation = "NO"  # no identity on its pages
        made.SourceInstanceSequence = [
            item(ReferencedSOPClassUID=file.SOPClassUID, ReferencedSOPInstanceUID=file.SOPInstanceUID)
            for file in reference.files
        ]
        made.DocumentTitle = TITLE
        made.ConceptNameCodeSequence = [CodedConcept.from_code(codes.DCM.ImagingMeasurementReport)]
        made.MIMETypeOfEncapsulatedDocument = "application/pdf"
        made.EncapsulatedDocument, made.EncapsulatedDocumentLength = document, len(document)
    return made
