"""Pages on paper: HTML as PDF by WeasyPrint, the extra ``pdf``."""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stdout
from typing import Any

from brats_seg.core.errors import InputError


def require_pdf() -> Any:
    """WeasyPrint, with the libraries it calls.

    Raises:
        InputError: if it is not installed.
    """
    try:
        with redirect_stdout(io.StringIO()):  # it prints where a library is missing, and raises as well
            import weasyprint  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InputError(
            "--also pdf needs WeasyPrint, which is not installed. Install it with: pip install 'brats-seg[pdf]'"
        ) from error
    except OSError as error:
        raise InputError(
            "--also pdf needs the library Pango, which is not installed. Install it, on Debian and Ubuntu with: "
            "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
        ) from error
    return weasyprint


def pdf_of(page: str) -> bytes:
    """A page of this program as PDF, on A4, as its style for print has it; nothing is loaded from elsewhere.

    Raises:
        InputError: as :func:`require_pdf`.
    """
    weasyprint = require_pdf()
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols=("data",))
    made: bytes = weasyprint.HTML(string=page, url_fetcher=fetcher).write_pdf()
    return made
