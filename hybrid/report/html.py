"""Small pieces of HTML. Whatever is text goes through `esc`; what is markup already is `Markup`."""

from __future__ import annotations

import html
from typing import Any, Iterable, Optional, Sequence

from hybrid.report.style import CSS


class Markup(str):
    """Text that is HTML already and is not escaped again."""


def esc(value: Any) -> Markup:
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def tag(name: str, *content: Any, cls: Optional[str] = None, **attributes: Any) -> Markup:
    """Makes an element; content that is not Markup is escaped, as are the values of attributes."""
    if cls:
        attributes["class"] = cls
    rendered = "".join(f' {key.replace("_", "-")}="{esc(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{rendered}>{join(content)}</{name}>")


def join(parts: Iterable[Any], separator: str = "") -> Markup:
    return Markup(separator.join(esc(part) for part in parts))


def document(title: str, body: Any) -> str:
    """Makes a whole page, with the style sheet in it."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{esc(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n{esc(body)}\n</body>\n</html>\n"
    )


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], *, numeric: Sequence[int] = (), cls: str = "") -> Markup:
    """Makes a table that scrolls within the page, its head always in sight; the first cell of a row names the row.

    numeric: columns set flush right. A cell that is Markup beginning with <td or <th is taken as it is.
    """

    def cell(kind: str, column: int, value: Any) -> Markup:
        if isinstance(value, Markup) and value.startswith(("<td", "<th")):
            return value
        return tag(kind, value, cls="num" if column in numeric else None, **({"scope": "row"} if kind == "th" else {}))

    heads = join(tag("th", name, cls="num" if k in numeric else None, scope="col") for k, name in enumerate(head))
    body = Markup(
        "".join(
            tag("tr", *(cell("td" if k else "th", k, value) for k, value in enumerate(row))) + "\n" for row in rows
        )
    )
    inner = Markup(f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>")
    return tag("div", tag("table", inner, **({"cls": cls} if cls else {})), cls="scroll", tabindex=0)


def none(text: str) -> Markup:
    """Makes a paragraph for a part of which there is nothing yet."""
    return tag("p", text, cls="none")


def warning(*content: Any) -> Markup:
    return tag("div", *content, cls="warn")


def details(title: Any, *content: Any, open: bool = False) -> Markup:
    return Markup(f"<details{' open' if open else ''}>{tag('summary', title)}{join(content)}</details>\n")


def soft(*content: Any) -> Markup:
    return tag("p", *content, cls="soft")


def seconds_text(seconds: Any) -> str:
    """Returns seconds as text: 3.2 s, 4 min 5 s, 2 h 3 min."""
    if not isinstance(seconds, (int, float)):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    total = int(seconds)
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def bytes_text(size: Any) -> str:
    if not isinstance(size, (int, float)):
        return "-"
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
