"""An order's lines in the text part of a mail: a long title goes over several lines of the text."""

from pipeline.notifications.mail.words import LINE_VALUES, VALUES

COLUMNS_MAX = 72
_BEFORE_TITLE, _BEFORE_AMOUNT = len(" x "), len("  ")  # as order_email.txt has it
_SHORT = COLUMNS_MAX - _BEFORE_TITLE - _BEFORE_AMOUNT


def folded(values: list[str]) -> list[str]:
    """Return the values of a mail with long titles folded, or the same list if all of them are short.

    A title goes on under its beginning, and the amount under it if it has no place beside its end. What has
    no space in it is left whole, so that it can be copied.
    """
    lengths = list(map(len, values[len(VALUES) :]))  # of quantity, title, amount, and so on
    if not lengths or max(lengths[::3]) + max(lengths[1::3]) + max(lengths[2::3]) <= _SHORT:
        return values  # nearly all orders
    found = values
    for at in range(len(VALUES), len(values), len(LINE_VALUES)):
        quantity, title, amount = values[at : at + len(LINE_VALUES)]
        if len(quantity) + _BEFORE_TITLE + len(title) + _BEFORE_AMOUNT + len(amount) > COLUMNS_MAX:
            found = list(values) if found is values else found
            found[at + 1] = _fold(title, len(quantity) + _BEFORE_TITLE, _BEFORE_AMOUNT + len(amount))
    return found


def _fold(title: str, indent: int, reserved: int) -> str:
    """Fold a title that begins at column `indent` and is followed by `reserved` characters."""
    width = COLUMNS_MAX - indent
    lines = _wrapped(title, width)
    margin = "\n" + " " * indent
    end = margin[:-_BEFORE_AMOUNT] if len(lines[-1]) + reserved > width else ""
    return margin.join(lines) + end


def _wrapped(title: str, width: int) -> list[str]:
    """Return a text's lines. `textwrap`, which can do more, takes 14 µs for a title of two lines, this 2."""
    lines, line = [], ""
    for word in title.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]
