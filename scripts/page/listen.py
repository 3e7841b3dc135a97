"""In a real browser: how long after the click the first sound comes, and whether it ever waits for more.

mindmusicgen page --port 7860 & python scripts/page/listen.py http://127.0.0.1:7860 --seconds 30
"""

import argparse
import json
import shutil

from playwright.sync_api import sync_playwright


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(locale="en-US")
        page.goto(arguments.url)
        page.wait_for_function("document.querySelector('#seed input')?.value === ''")
        for number in range(arguments.times + 1):  # the first one warms
            page.fill("#prompt textarea", "upbeat 80s pop with drums and synth bass, 120 bpm")
            page.fill("#duration input[type=number]", str(arguments.seconds))
            page.fill("#seed input", str(number))
            page.click("#make")
            page.wait_for_function("document.querySelector('#live').dataset.complete === 'false'")
            page.wait_for_function("document.querySelector('#live').dataset.complete === 'true'", timeout=300_000)
            page.wait_for_timeout(500)
            told = json.loads(page.eval_on_selector("#live", "live => JSON.stringify(live.dataset)"))
            arrivals = [int(one) / 1000 for one in told["arrivals"].split()]
            gaps = [after - before for before, after in zip(arrivals, arrivals[1:], strict=False)]
            name = f"piece {number}" if number else "warming"
            print(f"{name}: first sound {int(told['first']) / 1000:.2f} s after the click,", end=" ")
            print(f"{len(arrivals)} chunks, the longest wait {max(gaps):.2f} s, all there", end=" ")
            print(f"after {arrivals[-1]:.1f} s, waited for more {told['underruns']} times")
            page.wait_for_function("document.querySelector('#stop').disabled")
            page.wait_for_timeout(1000)
        browser.close()


if __name__ == "__main__":
    main()
