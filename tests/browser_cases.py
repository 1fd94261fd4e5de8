"""What the tests of the page do with it in a browser."""

from playwright.sync_api import expect


def written(page):
    """Return the generated text as the page shows it, without the marks of line ends."""
    return "".join(page.locator("#text span").all_text_contents())


def progress(page, words):
    expect(page.locator("#progress")).to_contain_text(words, timeout=30_000)


def colours(page):
    return page.locator("#text span").evaluate_all("spans => spans.map(s => s.className)")


def write(page, length=80, prompt="abc", pace="", seed="5"):
    """Have a text generated."""
    page.fill("#prompt", prompt)
    page.locator("#more").evaluate("more => { more.open = true; }")
    page.fill("#length", str(length))
    page.fill("#seed", seed)
    page.select_option("#pace", pace)
    page.click("#start")
