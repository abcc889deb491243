"""`course lint`."""


def lint() -> None:
    """Being written."""
