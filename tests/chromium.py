"""Pages laid out by Chromium, and what is wrong with how they look: text too faint, content too wide."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import msgspec

_SECONDS_MAX = 90
_RESULT = re.compile(r'<pre id="result">(.*?)</pre>', re.DOTALL)
# Each page is a frame of the width wanted: Chromium has no window narrower than 500 pixels.
_MEASURE = Path(__file__).with_name("chromium_measure.js")


class Look(msgspec.Struct):
    """How a page looks. `faint`, `wide`, `small`: elements, by their tag and first words, and by how much."""

    name: str
    scheme: str
    width: int
    texts: int
    faint: list[str]
    wide: list[str]
    small: list[str]


def chromium() -> str | None:
    """Return the path of Chromium, if there is one: Debian's package of that name."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def looks(pages: dict[str, str], *, width: int, scheme: str, folder: Path) -> list[Look]:
    """Lay out every page at a width (CSS pixels) in a colour scheme and return how each looks."""
    frames = "".join(
        f'<iframe name="{html.escape(name)}" srcdoc="{html.escape(page)}" '
        f'style="border:0;display:block;width:{width}px;height:900px"></iframe>'
        for name, page in pages.items()
    )
    sheet = folder / f"sheet-{width}-{scheme}.html"
    sheet.write_text(
        '<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        f'{frames}<pre id="result"></pre><script>{_MEASURE.read_text(encoding="utf-8")}</script>',
        encoding="utf-8",
    )
    command = [str(chromium()), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [
        f"--user-data-dir={folder}/profile",
        f"--blink-settings=preferredColorScheme={['dark', 'light'].index(scheme)}",
    ]
    command += [f"--window-size={max(width, 500)},900", "--dump-dom", sheet.as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS_MAX, text=True)
    found = _RESULT.search(done.stdout)
    assert found is not None, done.stderr[-2000:]
    return msgspec.json.decode(html.unescape(found[1]), type=list[Look])
