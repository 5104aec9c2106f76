"""The API's description, as its script makes it."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))

from render_api import REFERENCE, application, description, render  # noqa: E402  # its folder is no package

__all__ = ["REFERENCE", "application", "description", "render"]
