"""The version of fedshard, read by the build and by every run folder."""

__version__ = "0.1.0"
