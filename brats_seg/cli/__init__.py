"""The command line. One file a command; each parses, calls one function and prints."""

from brats_seg.cli.main import main

__all__ = ["main"]
