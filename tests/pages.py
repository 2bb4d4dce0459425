"""A page as its source, and as a browser draws it."""

import re
import shutil
import subprocess
from html.parser import HTMLParser


class Elements(HTMLParser):
    """Tags with their attributes, and the texts outside of scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self._inside = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag):
        if tag in self._inside:
            self._inside.remove(tag)

    def handle_data(self, data):
        if not self._inside and data.strip():
            self.texts.append(data.strip())

    def attributes(self, name, tag=None):
        return [
            attributes[name]
            for element, attributes in self.elements
            if name in attributes and tag in (None, element)
        ]


def in_browser(page, folder):
    """The document after its scripts ran, and the messages that they left in the console."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    assert browser, f"The page is tested in a browser: install one of {', '.join(names)}."
    file = folder / "report.html"
    file.write_text(page)
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-unsafe-swiftshader",
        "--enable-logging=stderr",
    ]
    # No name is found, so that nothing can come from a network.
    options += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"]
    options += ["--hide-scrollbars", "--window-size=1600,900"]
    command = [browser, *options, "--virtual-time-budget=20000", "--dump-dom", file.as_uri()]
    process = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    messages = re.findall("CONSOLE.*", process.stderr)
    # Without a GPU the browser warns that WebGL is slow.
    return process.stdout, [message for message in messages if "WebGL" not in message]


PROBE = """<script>
setTimeout(() => {
  const {clientWidth, scrollWidth} = document.documentElement;
  const drawn = document.querySelectorAll(".main-svg").length > 0;
  parent.postMessage(`${scrollWidth} of ${clientWidth} ${drawn ? "drawn" : "empty"}`, "*");
}, 6000);
</script></body>"""
FRAME = '<iframe src="framed.html" width="{}" height="900"></iframe>'
TELL = """<script>
const told = [];
addEventListener("message", ({data}) => { told.push(data); document.title = told.sort(); });
</script>"""


def widths_in_frames(page, folder, widths):
    """How wide the document is in frames of some widths, which may be those of phones, as texts."""
    (folder / "framed.html").write_text(page.replace("</body>", PROBE))
    frames = "".join(map(FRAME.format, widths))
    document, messages = in_browser(f"<!DOCTYPE html>{frames}{TELL}", folder)
    assert messages == []
    return re.search("<title>(.*)</title>", document)[1].split(",")
