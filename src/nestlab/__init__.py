"""nestlab: nested virtualization labs from one file, proven at every level."""

__version__ = "0.1.0"
