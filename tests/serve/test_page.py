"""The page: its files and headers, and what a person can do with it in a browser."""

import contextlib
import re
import socket
import urllib.error
import urllib.request

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from browser_cases import colours, progress, write, written
from fastrnn.serve.page import ASSETS
from fastrnn.text import load_model, sample
from page_cases import running, write_models, write_text_model

TOKEN = "a-token-of-enough-characters"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models):
    with running(models) as running_server:
        yield running_server


# --- files ----------------------------------------------------------------------------------------


def fetch(url, method="GET", **headers):
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


@pytest.mark.parametrize("name", ["", *(f"page/{name}" for name in sorted(ASSETS))])
def test_files_have_types_tags_and_a_strict_policy(server, name):
    status, headers, content = fetch(f"{server.http}/{name}")
    asset = ASSETS[name.removeprefix("page/") or "index.html"]
    assert (status, content) == (200, asset.content)
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    kind = kinds.get(name.rpartition(".")[2], "text/html")
    assert headers["Content-Type"].startswith(kind)
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}
    for known in (headers["ETag"], f'"other", W/{headers["ETag"]}'):
        status, again, content = fetch(f"{server.http}/{name}", **{"If-None-Match": known})
        assert (status, content, again["ETag"]) == (304, b"", headers["ETag"])
    assert fetch(f"{server.http}/{name}", **{"If-None-Match": '"other"'})[0] == 200
    status, again, content = fetch(f"{server.http}/{name}", "HEAD")
    assert (status, content, again["Content-Length"]) == (200, b"", str(len(asset.content)))


@pytest.mark.parametrize(
    "path", ["page/", "page/none.js", "page/..%2fpage.py", "page/%2e%2e/page.py", "page.py"]
)
def test_nothing_else_is_served(server, path):
    assert fetch(f"{server.http}/{path}")[0] == 404


def test_files_name_no_other_place_and_only_files_that_exist():
    for name, asset in ASSETS.items():
        text = asset.content.decode()
        assert not re.search(r"(https?:)?//(?!www\.w3\.org/2000/svg)\w+\.", text), name
        assert "innerHTML" not in text
        assert "eval(" not in text
        for used in re.findall(r'(?:from "\./|(?:href|src)="page/)([^"]+)"', text):
            assert used in ASSETS
        if name.endswith(".html"):
            assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)


# --- in a browser ---------------------------------------------------------------------------------


def test_models_are_listed_and_a_character_model_comes_first(visit):
    page = visit()
    expect(page.locator("#server-words")).to_have_text("Connected")
    links = page.get_by_role("navigation", name="Models").get_by_role("link")
    expect(links).to_have_count(3)
    chosen = page.locator("[aria-current=page]")
    expect(chosen).to_contain_text("book")
    expect(chosen).to_contain_text("writes text")
    expect(page.get_by_role("heading", name="book")).to_be_visible()
    links.nth(0).click()
    expect(page.locator("#other-title")).to_have_text("sensor")
    expect(page.locator("#text-model")).to_be_hidden()
    page.reload()
    expect(page.locator("#other-title")).to_have_text("sensor")


def test_the_text_is_that_of_sample(visit, models):
    page = visit()
    write(page)
    progress(page, "Done: 80 characters, seed 5")
    loaded = load_model(models["book"])
    options = {"prime": "abc", "temperature": 0.8, "seed": 5}
    text = "".join(sample(loaded.model, loaded.vocabulary, 80, **options))
    assert written(page) == text
    expect(page.locator("#text b")).to_have_text("abc")
    page.locator("#plain summary").click()
    assert page.locator("#plain-text").text_content() == "abc" + text
    page.click("#continue")
    progress(page, "Done: 80 characters")
    more = "".join(sample(loaded.model, loaded.vocabulary, 160, **options))
    assert written(page) == more
    page.click("#clear")
    assert written(page) == ""


def test_stop_ends_a_text_that_can_go_on(visit, server):
    page = visit()
    write(page, 10_000, pace="200")
    expect(page.locator("#text span").nth(5)).to_be_visible()
    expect(page.locator("#stop")).to_be_focused()
    expect(page.locator("#start")).to_be_disabled()
    page.click("#stop")
    progress(page, "Stopped")
    count = len(written(page))
    assert 5 < count < 10_000
    expect(page.locator("#start")).to_be_focused()
    page.fill("#length", "50")
    page.click("#continue")
    progress(page, "Done: 50 characters")
    assert len(written(page)) == count + 50
    page.goto("about:blank")
    while len(server.service.sessions):  # given back by who leaves
        page.wait_for_timeout(20)


def test_a_cell_colours_the_text_and_tells_its_values(visit):
    page = visit()
    write(page)
    progress(page, "Done")
    cells = page.get_by_role("group", name="Cell that colours the text").get_by_role("radio")
    expect(cells).to_have_count(12)
    scores = [float(score) for score in page.locator("#cell-list .score").all_text_contents()]
    assert scores == sorted(scores, reverse=True)
    checked = page.locator("#cell-list input:checked")
    expect(checked).to_have_count(1)
    expect(page.locator("#shown-cell")).to_have_text(f"Cell {checked.input_value()}")
    before = colours(page)
    assert len(set(before)) > 5
    cells.nth(4).click()
    expect(cells.nth(4)).to_be_checked()
    chosen = page.locator("#shown-cell").text_content()
    assert colours(page) != before
    page.locator("#text span").nth(7).hover()
    note = page.locator("#note").text_content()
    found = re.search(r"Character 8 of 80, .+: (cell \d+) holds ([+\u2212]?)(\d\.\d\d)$", note)
    assert found, note
    assert found[1] == chosen.lower()
    strength = round(10 * float(found[3]))
    style = {"+": "p", "\u2212": "n"}.get(found[2], "") + str(strength) if strength else ""
    assert style in page.locator("#text span").nth(7).get_attribute("class").split() + [""]
    # Each strip shows something.
    drawn = """canvases => canvases.map(canvas => canvas.getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height).data.some(byte => byte > 0))"""
    assert page.locator("#cell-list canvas").evaluate_all(drawn) == [True] * 12
    page.fill("#any-cell", "3")
    page.keyboard.press("Enter")
    expect(page.locator("#shown-cell")).to_have_text("Cell 3")
    expect(page.locator("#cell-list input:checked")).to_have_value("3")
    page.fill("#any-cell", "24")  # there are 24: 0 to 23
    page.keyboard.press("Enter")
    expect(page.locator("#shown-cell")).to_have_text("Cell 3")


def test_everything_goes_by_keyboard(visit):
    page = visit()
    expect(page.locator("#text-model")).to_be_visible()
    press = page.keyboard.press
    press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page.locator("#text-model")).to_be_visible()
    press("Tab")
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.type("ab")
    press("Tab")
    expect(page.locator("#temperature")).to_be_focused()
    press("ArrowLeft")
    expect(page.locator("#temperature-value")).to_have_text("0.75")
    press("Tab")
    expect(page.locator("#start")).to_be_focused()
    press("Enter")
    expect(page.locator("#text span").nth(20)).to_be_attached()
    press("Escape")
    progress(page, "Stopped")
    for _ in range(20):
        press("Tab")
        if page.evaluate("() => document.activeElement.id") == "text":
            break
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft"):
        press(key)
    expect(page.locator("#note")).to_contain_text("Character 2 of")
    press("End")
    count = len(page.locator("#text span").all())
    expect(page.locator("#note")).to_contain_text(f"Character {count} of {count}")
    for _ in range(5):
        press("Tab")
        if page.evaluate("() => document.activeElement.name") == "cell":
            break
    before = page.locator("#shown-cell").text_content()
    press("ArrowDown")
    assert page.locator("#shown-cell").text_content() != before
    page.focus("#prompt")
    press("Control+Enter")
    expect(page.locator("#stop")).to_be_enabled()
    press("Escape")
    progress(page, "Stopped")
    expect(page.locator("#prompt")).to_be_focused()


def test_what_is_wrong_is_said_where_it_is(visit):
    page = visit()
    page.fill("#prompt", "abc \u03a9")
    page.click("#start")
    expect(page.get_by_role("alert")).to_contain_text("\u03a9")
    expect(page.locator("#prompt")).to_be_focused()
    expect(page.locator("#prompt")).to_have_attribute("aria-invalid", "true")
    page.fill("#prompt", "abc")
    write(page, 20)
    progress(page, "Done: 20")
    expect(page.get_by_role("alert")).to_be_empty()
    page.fill("#top-p", "2")
    page.locator("#more").evaluate("more => { more.open = false; }")
    page.click("#start")
    expect(page.locator("#top-p")).to_be_focused()
    assert page.locator("#top-p").evaluate("field => !field.checkValidity()")


def test_texts_are_shown_as_text(visit, models):
    """Whatever a model writes, it makes no elements."""
    page = visit()
    write(page, 300, prompt="<b>&", seed="11")
    progress(page, "Done")
    assert page.locator("#text *").count() == 301
    expect(page.locator("#text b")).to_have_text("<b>&")


@pytest.mark.parametrize("name, datatype", [("sensor", "FP32"), ("words", "INT64")])
def test_other_models_can_be_tried(visit, name, datatype):
    page = visit(f"#model={name}")
    expect(page.locator("#try-words")).to_contain_text(datatype)
    page.fill("#steps", "7")
    page.keyboard.press("Enter")
    expect(page.locator("#try-result")).to_contain_text("[1,7,")
    expect(page.get_by_role("img", name="Output; at the end")).to_be_visible()
    page.locator("summary", has_text="Output").click()
    expect(page.locator("#try-figure tbody tr")).to_have_count(7)
    page.get_by_text("Use it from a program").click()
    expect(page.get_by_role("region", name="curl example")).to_contain_text(f"{name}/infer")


def test_examples_run_as_they_are_shown(visit, server):
    page = visit("#model=sensor")
    expect(page.locator("#examples pre")).to_have_count(2)
    code = page.get_by_label("Python example", exact=True).text_content()
    printed = []
    exec(compile(code, "example", "exec"), {"print": lambda *a, **_: printed.append(a)})
    assert printed[0][0][0]["shape"] == [1, 2, 2]
    page = visit("#model=book")
    expect(page.locator("#examples pre")).to_have_count(1)
    code = page.get_by_label("Python example", exact=True).text_content()
    printed.clear()
    code = code.replace("The ", "abc")  # the model knows no T
    exec(compile(code, "example", "exec"), {"print": lambda *a, **_: printed.append(a)})
    assert len(printed) == 200


def test_charts_have_words_and_tables(visit):
    page = visit()
    write(page, 50)
    progress(page, "Done")
    latency = page.get_by_role(
        "img", name=re.compile(r"Time to an answer; at the end p50: [\d.]+ ms")
    )
    expect(latency).to_be_visible(timeout=20_000)
    steps = page.get_by_role("img", name=re.compile(r"Sessions in one step.*most often of size 1$"))
    expect(steps).to_be_visible()
    page.locator("summary", has_text="Sessions in one step").click()
    rows = page.locator("#charts tbody tr:visible")
    expect(rows).to_have_count(7)
    expect(page.locator("#counts")).to_contain_text("Characters")


def test_the_token_is_asked_for_and_goes_into_no_address(visit, models, browser):
    with running(models, tokens=(TOKEN,)) as server:
        page = visit(at=server, expected=["401"])
        addresses = []
        page.on("request", lambda request: addresses.append(request.url))
        page.on("websocket", lambda socket: addresses.append(socket.url))
        expect(page.locator("#token")).to_be_focused()
        expect(page.locator("#columns")).to_be_hidden()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#server-words")).to_have_text("The server does not know this token.")
        expect(page.locator("#token")).to_be_focused()
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#text-model")).to_be_visible()
        write(page, 20)
        progress(page, "Done: 20")
        page.get_by_text("Use it from a program").click()
        expect(page.locator("#examples pre")).to_contain_text("FASTRNN_TOKEN")
        page.reload()
        expect(page.locator("#text-model")).to_be_visible()  # the tab still knows it
        assert TOKEN not in page.content() + page.url
        assert not [url for url in addresses if TOKEN in url or "token" in url.lower()]


def free_port():
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_server_that_goes_and_comes_back(visit, models):
    port = free_port()
    with running(models, port) as server:
        page = visit(at=server, expected=["ERR_", "WebSocket"])
        write(page, 10_000, pace="200")
        expect(page.locator("#text span").nth(5)).to_be_attached()
        server.call(server.service.draining.set)
        progress(page, "The server is being stopped")
        expect(page.locator("#continue")).to_be_disabled()
    expect(page.locator("#server-words")).to_contain_text("does not answer", timeout=30_000)
    page.click("#start")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer.")
    expect(page.locator("#start")).to_be_enabled()
    with running(models, port):
        expect(page.locator("#server-words")).to_have_text("Connected", timeout=30_000)
        write(page, 20)
        progress(page, "Done: 20")
        expect(page.get_by_role("alert")).to_be_empty()


def test_a_full_server_says_so(visit, models):
    with running(models, max_sessions_per_client=1) as server:
        first, second = visit(at=server), visit(at=server)
        write(first, 10_000, pace="20")
        expect(first.locator("#text span").first).to_be_attached()
        write(second, 20)
        expect(second.get_by_role("alert")).to_contain_text("a client may have 1 sessions")
        first.click("#stop")
        progress(first, "Stopped")


def test_a_new_version_of_a_model_writes_the_next_text(visit, tmp_path):
    path = write_text_model(tmp_path / "book.safetensors", seed=1)
    with running({"book": path}, reload_interval=0.05) as server:
        page = visit(at=server)
        write(page, 40)
        progress(page, "Done")
        text, old = written(page), load_model(path)
        write_text_model(tmp_path / "new.safetensors", hidden=20, seed=2).replace(path)
        new = load_model(path)
        expect(page.locator("#text-facts")).to_contain_text("LSTM 2 x 20", timeout=30_000)
        assert written(page) == text
        page.click("#continue")
        progress(page, "Done")
        options = {"prime": "abc", "temperature": 0.8, "seed": 5}
        assert written(page) == "".join(sample(old.model, old.vocabulary, 80, **options))
        page.click("#start")
        progress(page, "Done")
        assert written(page) == "".join(sample(new.model, new.vocabulary, 40, **options))
        expect(page.locator("#any-cell")).to_have_attribute("max", "19")
