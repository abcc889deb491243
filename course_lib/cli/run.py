"""`course run`."""


def run() -> None:
    """Being written."""
