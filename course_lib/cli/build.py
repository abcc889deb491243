"""`course build`."""


def build() -> None:
    """Being written."""
