"""Jinja for templates: its sandbox, and bounds on what a template may ask for."""

from typing import Any

from jinja2 import StrictUndefined, select_autoescape
from jinja2.loaders import BaseLoader
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

RENDERED_CHARS_MAX = 400_000  # of one part; a template that writes more is broken
_EXPONENT_MAX = 64


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which `*` and `**` make nothing huge.

    Constants are not calculated when a template is compiled: `{{ "x"|center(10**9) }}` would be.
    """

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self, loader: BaseLoader) -> None:
        super().__init__(
            loader=loader,
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            cache_size=-1,
            optimized=False,
        )

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Calculate; raises OverflowError for what would be huge."""
        if operator == "**" and abs(right) > _EXPONENT_MAX:
            raise OverflowError(f"** {right}: at most {_EXPONENT_MAX}")
        if operator == "*":
            for text, times in ((left, right), (right, left)):
                if hasattr(text, "__len__") and isinstance(times, int):
                    _bound(len(text) * times)
        return super().call_binop(context, operator, left, right)


def _bound(size: int) -> None:
    if size > RENDERED_CHARS_MAX:
        raise OverflowError(f"* makes {size} of it: at most {RENDERED_CHARS_MAX}")
