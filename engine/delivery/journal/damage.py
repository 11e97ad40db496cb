"""The error for a damaged file, as opposed to a disk that is full or a file that is locked."""


class DamagedError(Exception):
    """The journal's file does not hold what was written. It has to be rescued."""
