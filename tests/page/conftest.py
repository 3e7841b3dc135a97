"""The page in a browser and over HTTP: for the extra `test-page`, without which these files are not collected."""

import importlib.util
import os
import shutil

import pytest
from page_server import Server

NEEDS = {"test_api.py": ("gradio_client",), "test_browser.py": ("gradio_client", "playwright")}
collect_ignore = [name for name, needed in NEEDS.items() if not all(map(importlib.util.find_spec, needed))]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A page that whole files share; at its end no error has come through this package's files."""
    keep = tmp_path_factory.mktemp("kept")
    made = Server("--keep", str(keep), "--max-duration", "60", "--max-upload", "5")
    made.keep = keep
    yield made
    code, said, _ = made.end()
    assert code == 0 and "mindmusicgen/" not in said, said


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, or whichever is installed."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if path is None:
        raise RuntimeError("there is no Chromium here; install the package chromium, or say where it is with CHROMIUM")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
