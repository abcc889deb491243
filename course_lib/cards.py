"""Framed text that shows alike in a terminal, in JupyterLab, in Colab and in the book."""

import textwrap


def box(lines: list[str], width: int = 88) -> str:
    """`lines` in a frame, wrapped to `width` characters."""
    wrapped = [part for line in lines for part in textwrap.wrap(line, width - 4) or [""]]
    inner = max(map(len, wrapped))
    rows = [f"│ {line:<{inner}} │" for line in wrapped]
    return "\n".join([f"┌{'─' * (inner + 2)}┐", *rows, f"└{'─' * (inner + 2)}┘"])
