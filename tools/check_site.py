"""Open every page of site/ in headless Chromium: `make docs-check`, after `make docs`.

In both languages and at two widths: no error in the console, nothing fetched from another server, no page wider than
the window, formulas set. Search finds words of both languages, and code can be copied. Needs Chromium
(apt-get install chromium fonts-noto-cjk) and playwright, which .venv-docs has; without Chromium nothing is checked.

    .venv-docs/bin/python tools/check_site.py [--screenshots FOLDER] [--only WORD]
"""

import argparse
import functools
import http.server
import os
import shutil
import sys
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SITE = os.path.join(ROOT, "site")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (390, 1280)
# Milliseconds after which what moves when a window changes its width has come to rest.
SETTLED = 5000
# Where a phrase is typed, and a page that has to be among the results.
SEARCHES = (
    ("", "gradient accumulation", "optimizers/gradient-accumulation/"),
    ("zh/", "梯度累积", "zh/optimizers/gradient-accumulation/"),
    ("zh/", "gradient accumulation", "optimizers/gradient-accumulation/"),
)
COPIED_FROM = "optimizers/gradient-accumulation/"
SHOWN = ("", "zh/", "zh/techniques/", "training/recompute/", "zh/benchmarks/", "reference/losses/", "zh/tutorial/")
STATE = """() => ({
    title: document.title,
    unset: [...document.querySelectorAll('.arithmatex')].filter(f => {
        const drawn = f.querySelector('mjx-container svg');
        return f.checkVisibility() && !(drawn && drawn.getBoundingClientRect().width > 3);
    }).length,
    wrong: document.querySelectorAll('[data-mml-node=merror]').length,
    missing: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
})"""
FITS = "() => document.documentElement.scrollWidth <= window.innerWidth + 1"
RESULTS = "() => [...document.querySelectorAll('.md-search-result__link')].map(link => link.href)"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the site without a line for each request."""

    def log_message(self, *args):
        """Nothing."""


def serve(folder):
    """Address of a server of the folder, which ends with the process."""
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return "http://127.0.0.1:%d/" % server.server_port


def addresses(folder):
    """Pages of a site, relative to it."""
    for path, _, names in os.walk(folder):
        if "index.html" in names:
            relative = os.path.relpath(path, folder)
            yield "" if relative == "." else relative.replace(os.sep, "/") + "/"


def watch(page, base):
    """List that fills with what goes wrong while pages are open."""
    faults = []
    page.on(
        "console",
        lambda m: m.type in ("error", "warning")
        and faults.append("/%s: console: %s" % (page.url[len(base) :], m.text)),
    )
    page.on("response", lambda r: r.status >= 400 and faults.append("%d: %s" % (r.status, r.url)))
    page.on("pageerror", lambda error: faults.append("/%s: script: %s" % (page.url[len(base) :], error)))
    page.on("requestfailed", lambda r: r.failure != "net::ERR_ABORTED" and faults.append("not loaded: " + r.url))
    page.on(
        "request",
        lambda r: r.url.startswith(base) or r.url[:5] in ("data:", "blob:") or faults.append("fetches " + r.url),
    )
    return faults


def check_page(page, base, address):
    """What is wrong with a page."""
    from playwright.sync_api import TimeoutError as TooLate

    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.goto(base + address, wait_until="load")
    page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        try:
            page.wait_for_function(FITS, timeout=SETTLED)
        except TooLate:
            wide = page.evaluate("() => document.documentElement.scrollWidth")
            yield "is %d pixels wide in a window of %d" % (wide, width)
    state = page.evaluate(STATE)
    for name in ("unset", "wrong"):
        if state[name]:
            yield "%d formulas %s" % (state[name], name)
    for source in state["missing"]:
        yield "has no picture " + source
    if not state["title"]:
        yield "has no title"


def check_search(page, base):
    """Phrases that are not found."""
    for start, phrase, wanted in SEARCHES:
        page.goto(base + start, wait_until="load")
        page.click(".md-search__input")
        page.keyboard.type(phrase, delay=20)
        try:
            page.wait_for_function(
                "wanted => (%s)().some(url => url.includes(wanted))" % RESULTS, arg=base + wanted, timeout=20000
            )
        except Exception as error:  # of playwright
            found = page.evaluate(RESULTS)[:8]
            yield "/%s: %r does not find %s but %s (%s)" % (start, phrase, wanted, found, str(error).split("\n")[0])


def check_copying(page, base):
    """Whether the button of the first snippet copies it."""
    page.goto(base + COPIED_FROM, wait_until="load")
    code = page.locator("pre code").first
    code.hover()
    button = page.locator(".md-clipboard, .md-code__button[data-md-type=copy]").first
    button.click()
    page.wait_for_timeout(300)
    copied, shown = page.evaluate("() => navigator.clipboard.readText()"), code.inner_text()
    if copied.strip() != shown.strip():
        yield "/%s: copied is %r instead of %r" % (COPIED_FROM, copied[:60], shown[:60])


def main():
    """Check all, print what is wrong, and say how much was looked at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screenshots", help="folder for pictures of a few pages, light and dark")
    parser.add_argument("--only", default="", help="pages whose address contains this")
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        print("check_site.py: SKIPPED, no Chromium here: apt-get install chromium fonts-noto-cjk")
        return 0
    from playwright.sync_api import sync_playwright

    base, count, wrong = serve(SITE), 0, 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(90000)
        faults = watch(page, base)
        for address in sorted(addresses(SITE)):
            if options.only in address:
                wrong += tell(["/%s: %s" % (address, fault) for fault in check_page(page, base, address)] + faults)
                faults.clear()
                count += 1
        wrong += tell(list(check_search(page, base)) + list(check_copying(page, base)) + faults)
        if options.screenshots:
            take(browser, base, options.screenshots)
        browser.close()
    print("check_site.py: %d pages at %d widths, %d faults" % (count, len(WIDTHS), wrong))
    return 1 if wrong else 0


def tell(faults):
    """Print them at once; how many there are."""
    for fault in faults:
        print(fault, flush=True)
    return len(faults)


def take(browser, base, folder):
    """Pictures of a few pages, wide and light, narrow and dark."""
    os.makedirs(folder, exist_ok=True)
    for width, scheme in ((1280, "light"), (390, "dark")):
        page = browser.new_page(viewport={"width": width, "height": 1100}, color_scheme=scheme)
        for address in SHOWN:
            page.goto(base + address, wait_until="networkidle")
            name = "%s-%d.png" % (address.strip("/").replace("/", "-") or "start", width)
            page.screenshot(path=os.path.join(folder, name))
        page.close()


if __name__ == "__main__":
    sys.exit(main())
