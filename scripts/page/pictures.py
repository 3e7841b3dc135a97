"""The two pictures of docs/page.md: the page when a piece is there, and on a phone, in Chinese and dark.

mindmusicgen page --port 7860 & python scripts/page/pictures.py http://127.0.0.1:7860 docs/page
"""

import argparse
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURES = {  # name: what the browser is like, and the prompt
    "wide": ({"locale": "en-US", "viewport": {"width": 1240, "height": 1000}}, "upbeat 80s pop with drums, 120 bpm"),
    "phone": (
        {"locale": "zh-CN", "viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
        "平静的抒情歌，钢琴，没有鼓，64 bpm",
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (options, prompt) in PICTURES.items():
            page = browser.new_context(**options).new_page()
            page.goto(arguments.url)
            page.wait_for_function("document.querySelector('#seed input')?.value === ''")
            page.fill("#prompt textarea", prompt)
            page.fill("#seed input", "7")
            page.click("#make")
            page.wait_for_selector("#pictures img", timeout=120_000)
            page.wait_for_timeout(12_000)  # the piece has been heard
            path = arguments.folder / f"{name}.png"
            page.evaluate("document.querySelector('#made').scrollIntoView()" if name == "phone" else "scrollTo(0, 0)")
            page.wait_for_timeout(500)
            page.screenshot(path=path)
            Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
