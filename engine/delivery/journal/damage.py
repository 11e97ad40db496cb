"""The error for a damaged file, as opposed to a disk that is full or a file that is locked."""


class DamagedError(Exception):
    """The journal's file is not what was written: it has to be replaced by what can be read of it."""
