"""The page for everybody: on phones, by ear, in the dark, with the eyes and hands one has."""

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from browser_cases import progress, write
from page_cases import running, write_models

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models):
    with running(models) as running_server:
        yield running_server


@pytest.mark.parametrize("name", ["book", "sensor"])
def test_a_phone_shows_it_all_without_scrolling_sideways(visit, name):
    page = visit(f"#model={name}", **PHONE)
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    if name == "book":
        write(page)
        progress(page, "Done")
    else:
        page.click("#try")
        expect(page.locator("#try-figure svg")).to_be_visible()
    page.get_by_text("Use it from a program").click()
    assert page.evaluate("() => document.documentElement.scrollWidth") == 360
    small = """all => all
        .filter(each => each.offsetParent && each.getBoundingClientRect().height < 24)
        .map(each => each.outerHTML)"""
    assert page.locator("button, input, select, summary, nav a").evaluate_all(small) == []


# The contrast of each visible text with what is behind it, colours laid over one another.
CONTRAST = """() => {
  const parse = colour => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, back) =>
    top.slice(0, 3).map((value, k) => value * top[3] + back[k] * (1 - top[3]));
  const linear = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = colour.map(value => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = [];
  let count = 0;
  for (const node of document.querySelectorAll("body *")) {
    const words = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
    if (!words || !node.getBoundingClientRect().width || !node.checkVisibility()) continue;
    if (node.closest(".hidden, .skip, :disabled")) continue;
    const behind = [];
    for (let up = node; up; up = up.parentElement) {
      behind.unshift(parse(getComputedStyle(up).backgroundColor));
    }
    const back = behind.reduce((colour, next) => over(next, colour), [255, 255, 255]);
    const style = getComputedStyle(node);
    const ink = parse(node.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [a, b] = [light(over(ink, back)), light(back)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    count += 1;
    if (ratio < 4.5) poor.push([ratio.toFixed(2), node.outerHTML.slice(0, 100)]);
  }
  return { poor, count };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(visit, scheme):
    page = visit(color_scheme=scheme)
    write(page)
    progress(page, "Done")
    page.fill("#prompt", "\u03a9")
    found = page.evaluate(CONTRAST)
    assert found["poor"] == []
    assert found["count"] > 120
    page.click("#start")
    expect(page.get_by_role("alert")).to_contain_text("\u03a9")
    page.goto(page.url.split("#")[0] + "#model=sensor")
    page.click("#try")
    expect(page.locator("#try-figure svg")).to_be_visible()
    assert page.evaluate(CONTRAST)["poor"] == []
    assert page.evaluate("() => getComputedStyle(document.body).colorScheme") == "light dark"


def test_every_control_has_a_name_and_ids_are_unique(visit):
    page = visit()
    write(page)
    progress(page, "Done")
    nameless = """all => all.filter(each => !(each.labels?.length || each.textContent.trim()
        || each.getAttribute("aria-label") || each.getAttribute("aria-labelledby")))
        .map(each => each.outerHTML)"""
    controls = "a, button, input, select, textarea, summary, [tabindex='0'], [role=img]"
    assert page.locator(controls).count() > 40
    assert page.locator(controls).evaluate_all(nameless) == []
    ids = page.locator("[id]").evaluate_all("all => all.map(each => each.id)")
    assert len(ids) == len(set(ids))
    for name in ("for", "aria-labelledby", "aria-describedby"):
        selector = f"[{name}]"
        used = page.locator(selector).evaluate_all(f"all => all.map(e => e.getAttribute('{name}'))")
        assert used
        assert {word for each in used for word in each.split()} <= set(ids)
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(each => +each.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1


def test_live_regions_do_not_chatter(visit):
    """What screen readers are told by themselves: that it began, and that it is done."""
    page = visit()
    expect(page.locator("#server-words")).to_have_text("Connected")
    expect(page.locator("#text-model")).to_be_visible()
    page.evaluate("""() => {
      window.said = [];
      const live = "[role=status], [role=alert], [aria-live], output";
      for (const region of document.querySelectorAll(live)) {
        new MutationObserver(() => window.said.push(region.textContent))
          .observe(region, {childList: true, characterData: true, subtree: true});
      }
    }""")
    write(page, 300, pace="200")
    progress(page, "Done")
    page.wait_for_timeout(2500)  # charts were drawn anew meanwhile
    said = [words for words in page.evaluate("() => window.said") if words]
    assert said[0] == "Generating"
    assert said[1].startswith("Done")
    assert len(said) == 2


def test_focus_is_seen(visit):
    page = visit()
    expect(page.locator("#text-model")).to_be_visible()
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate("""() => { const style = getComputedStyle(document.activeElement);
            return [style.outlineStyle, parseFloat(style.outlineWidth)]; }""")
        assert outline == ["solid", 3]


def test_motion_is_reduced_for_who_wants_it(visit):
    scroll = "() => getComputedStyle(document.documentElement).scrollBehavior"
    assert visit().evaluate(scroll) == "auto"
    assert visit(reduced_motion="no-preference").evaluate(scroll) == "smooth"


def test_axe_finds_nothing(visit):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for name in ("book", "sensor"):
        page = visit(f"#model={name}")
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
        if name == "book":
            write(page)
            progress(page, "Done")
        for details in page.locator("details:visible").all():
            details.evaluate("each => { each.open = true; }")
        found = axe.run(page).response["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
