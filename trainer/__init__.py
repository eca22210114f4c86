"""Keel: distributed safety-alignment training (see README.md)."""

__version__ = "0.1.0"
