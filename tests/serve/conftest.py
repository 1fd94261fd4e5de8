"""Fixtures of the tests of the page: a browser that goes nowhere else."""

import os
import shutil

import pytest


# Of a module: while Playwright's loop runs, other tests of the process cannot run one.
@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium")
    assert program, "there is no Chromium"
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def visit(browser, server):
    """A function that opens the page; afterwards nothing went elsewhere, and nothing complained."""
    contexts, elsewhere, complaints = [], [], []

    def open_page(path="", at=server, expected=(), **options):
        context = browser.new_context(**{"reduced_motion": "reduce", **options})
        contexts.append(context)
        if at is not server:  # one of the test's own may go before its pages
            expected = (*expected, "ERR_CONNECTION")
        context.set_default_timeout(20_000)

        def check(route):
            if route.request.url.startswith(at.http):
                route.continue_()
            else:
                elsewhere.append(route.request.url)
                route.abort()

        def hear(message):
            known = any(words in message.text for words in expected)
            if message.type in ("error", "warning") and not known:
                complaints.append(message.text)

        context.route("**/*", check)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("websocket", lambda ws: ws.url.startswith(at.ws) or elsewhere.append(ws.url))
        page.goto(f"{at.http}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert elsewhere == []
    assert complaints == []
