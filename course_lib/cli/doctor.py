"""`course doctor`."""


def doctor() -> None:
    """Being written."""
