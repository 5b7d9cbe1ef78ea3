"""What a data set that cannot be used gets."""


class DatasetError(ValueError):
    """A data set, or one of its images, cannot be read. The message says what is wrong, and the remedy."""
