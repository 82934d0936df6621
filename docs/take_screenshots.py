"""Take the pictures of the pages that the README shows, as the tests do, with more cells.

python docs/take_screenshots.py
"""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tests.edge.test_browser import chromium, take_screenshots  # noqa: E402 (found by the line above)

with chromium() as browser:
    take_screenshots(browser, REPOSITORY / "docs" / "pages", cells=40)
