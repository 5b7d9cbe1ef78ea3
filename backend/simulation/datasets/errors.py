"""What a data set that cannot be used gets."""


class DatasetError(ValueError):
    """A data set, or one of its images, cannot be read. The message says what is wrong, and the remedy."""


class MissingImage(DatasetError):
    """One labeled image cannot be had; the others can do without it."""
