"""Takes pictures of the previews of mails in Chromium: a phone's and a desktop's width, light and dark.

    postorder templates preview --out var/previews
    python scripts/render_previews.py var/previews [BEGINNING…]

Previews whose names begin so, or all of them, are put side by side, by kind and variant, one language each:
order_email.phone-light.png and so on, in the folder `pictures` beside them. Chromium is Debian's package
of that name.
"""

import html
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

SIZES = {"phone": (375, 860), "desktop": (1024, 860)}
SCHEMES = ("dark", "light")  # as Chromium numbers them
GAP_PX = 8
SECONDS_MAX = 60


def picture(chromium: str, pages: list[Path], target: Path, size: tuple[int, int], scheme: str) -> None:
    """Take one picture of several pages."""
    width, height = size
    # Chromium has no window narrower than 500 pixels, so each page goes into a frame of the width wanted.
    frames = "".join(
        f'<iframe srcdoc="{html.escape(page.read_text(encoding="utf-8"))}"></iframe>' for page in pages
    )
    style = (
        f"body{{margin:0;display:flex;gap:{GAP_PX}px;background:#777}}"
        f"iframe{{border:0;flex:none;width:{width}px;height:{height}px}}"
    )
    with tempfile.TemporaryDirectory() as folder:
        sheet = Path(folder) / "sheet.html"
        head = '<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        sheet.write_text(f"{head}<style>{style}</style>{frames}", encoding="utf-8")
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--blink-settings=preferredColorScheme={SCHEMES.index(scheme)}"]
        command += [f"--window-size={max(len(pages) * (width + GAP_PX) - GAP_PX, 500)},{height}"]
        command += [f"--user-data-dir={folder}/profile", f"--screenshot={target}", sheet.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS_MAX)


def sheets(folder: Path, beginnings: list[str]) -> dict[str, list[Path]]:
    """Return the pages of each sheet: order_email.de.in-yen.html belongs to order_email.in-yen."""
    found: dict[str, list[Path]] = defaultdict(list)
    for page in sorted(folder.glob("*.html")):
        if not beginnings or page.name.startswith(tuple(beginnings)):
            kind, _, variant = (
                page.stem.split(".", 2) if page.stem.count(".") > 1 else (*page.stem.split("."), "")
            )
            found[f"{kind}.{variant}" if variant else kind].append(page)
    return found


def main() -> int:
    """Take the pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None or len(sys.argv) < 2:  # noqa: PLR2004  # the folder
        print(__doc__ if chromium else "render_previews: needs Chromium: apt-get install chromium")
        return 2
    folder = Path(sys.argv[1])
    (folder / "pictures").mkdir(exist_ok=True)
    for name, pages in sheets(folder, sys.argv[2:]).items():
        for width, size in SIZES.items():
            for scheme in SCHEMES:
                target = (folder / "pictures" / f"{name}.{width}-{scheme}.png").resolve()
                picture(chromium, pages, target, size, scheme)
        print(f"{name}: {', '.join(page.stem for page in pages)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
