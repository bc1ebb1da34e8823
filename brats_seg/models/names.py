"""Names that stand on a command line; nothing of a model is read to know them."""

from __future__ import annotations

DEFAULT_MODEL = "glioma"
ENGINES = ("auto", "onnxruntime", "openvino", "torch")
"""What runs a network."""
