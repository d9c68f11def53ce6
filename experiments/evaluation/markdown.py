"""Tables in Markdown."""

from collections.abc import Sequence


def format_row(cells: Sequence[str]) -> str:
    """One line of a table; what would break it is escaped."""
    return "| " + " | ".join(" ".join(c.split("\n")).replace("|", "\\|") for c in cells) + " |"


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells of plain text, as many in each row as in the head."""
    rule = "| " + " | ".join("---" for _ in head) + " |"
    return "\n".join([format_row(head), rule, *(format_row(row) for row in rows)])
