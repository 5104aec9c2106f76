"""Takes pictures of the previews of mails in Chromium: a phone's and a desktop's width, light and dark.

    postorder templates preview --out var/previews
    python scripts/render_previews.py var/previews [NAME…]

Writes NAME.phone-light.png and so on beside each NAME.html. Chromium is Debian's package of that name.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTHS = {"phone": (390, 900), "desktop": (1100, 900)}
SCHEMES = {"light": [], "dark": ["--blink-settings=preferredColorScheme=0", "--force-dark-mode"]}
SECONDS_MAX = 60


def picture(chromium: str, page: Path, target: Path, size: tuple[int, int], options: list[str]) -> None:
    """Take a picture of a page."""
    # Chromium has no window narrower than 500 pixels, so the page goes into a frame of the width wanted.
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.html"
        style = f"body{{margin:0}}iframe{{border:0;width:{size[0]}px;height:{size[1]}px}}"
        scheme = '<meta name="color-scheme" content="light dark">'
        content = f'{scheme}<style>{style}</style><iframe src="{page.resolve().as_uri()}"></iframe>'
        frame.write_text(content, encoding="utf-8")
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options]
        command += [f"--user-data-dir={folder}/profile", f"--window-size={max(size[0], 500)},{size[1]}"]
        command += [f"--screenshot={target}", frame.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS_MAX)


def main() -> int:
    """Take the pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None or len(sys.argv) < 2:  # noqa: PLR2004  # the folder
        print(__doc__ if chromium else "render_previews: needs Chromium: apt-get install chromium")
        return 2
    folder = Path(sys.argv[1])
    for page in sorted(folder.glob("*.html")):
        if sys.argv[2:] and page.stem not in sys.argv[2:]:
            continue
        for width, size in WIDTHS.items():
            for scheme, options in SCHEMES.items():
                picture(chromium, page, page.with_suffix(f".{width}-{scheme}.png"), size, options)
        print(page.stem)
    return 0


if __name__ == "__main__":
    sys.exit(main())
