"""Ask questions of documents too long for any model's window."""

__version__ = "0.1.0"
