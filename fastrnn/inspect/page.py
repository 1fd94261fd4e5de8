"""A text coloured by the activation of a cell, as a page of its own."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import RealArray, real_array

__all__ = ["color_text"]

LEVELS = "abcdefghijklmnopqrstu"  # of -1, -0.9, ..., 1: the class of a character
MIDDLE = len(LEVELS) // 2
NEWLINE = "\n"
# Drawn over the page's own background, so that one table serves light and dark pages; at most 0.65
# opaque, which leaves the text a contrast of more than 4.5 on both.
NEGATIVE, POSITIVE, OPACITY = "0,114,178", "222,100,0", 0.65


def color_text(
    text: str,
    activations: ArrayLike,
    labels: Sequence[str] | None = None,
    title: str = "Cells along a text",
) -> str:
    """Return an HTML page that shows a text coloured by what a cell holds after each character.

    As the figures of Karpathy, Johnson & Fei-Fei (2016): blue for -1, no colour for 0, orange for
    1 (values are rounded to tenths, those beyond -1 and 1 shown as these). From 0.5 on a character
    is underlined as well. The page asks for nothing from anywhere; with several cells it has a list
    to choose from, and with the arrow keys one goes through the text and reads the numbers.

    Parameters
    ----------
    text : str
    activations : array_like, shape (T,) or (T, C)
        Of one cell, or of several: one row for each character.
    labels : sequence of str, optional
        What to call the C cells; "cell 0", ... if None.
    title : str
        The heading of the page.

    Returns
    -------
    str
        To be written in UTF-8.

    Raises
    ------
    ValueError
        For another number of activations than characters or of labels than cells; for no cell, or
        activations that are not finite.
    """
    values = real_array("activations", activations)
    values = values[:, np.newaxis] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != len(text) or not values.shape[1]:
        raise ValueError(
            f"activations: expected the shape ({len(text)},) or ({len(text)}, C), one row for "
            f"each character, got {np.shape(activations)}"
        )
    if not np.isfinite(values).all():
        raise ValueError("activations: expected finite numbers")
    cells = values.shape[1]
    names = [f"cell {cell}" for cell in range(cells)] if labels is None else list(labels)
    if len(names) != cells:
        raise ValueError(f"labels: expected {cells}, one for each cell, got {len(names)}")
    levels = [_levels(values[:, cell]) for cell in range(cells)]
    return _PAGE.format(
        title=_escape(title),
        style=_STYLE + _colours(),
        choice=_choice(names),
        legend="".join(f"<span class={level}></span>" for level in LEVELS),
        spans=_spans(text, levels[0]),
        data=json.dumps(levels),
        script=_SCRIPT,
    )


def _levels(values: RealArray) -> str:
    steps: NDArray[np.int64] = np.rint(np.clip(values, -1.0, 1.0) * MIDDLE).astype(np.int64)
    return "".join(LEVELS[step] for step in steps + MIDDLE)


def _spans(text: str, levels: str) -> str:
    return "".join(
        f'<span class="{level}{" end" if character == NEWLINE else ""}">{_escape(character)}</span>'
        for character, level in zip(text, levels, strict=True)
    )


def _escape(text: str) -> str:
    """Escape text for HTML; what HTML does not allow is shown by a picture of it."""
    if not text.isprintable():
        text = "".join(map(_visible, text))
    return html.escape(text)


def _visible(character: str) -> str:
    code = ord(character)
    if code < 32 and character not in "\n\t":
        return chr(0x2400 + code)
    unfit = code in (0x7F, 0xFFFE, 0xFFFF) or 0x80 <= code < 0xA0 or 0xD800 <= code < 0xE000
    return "\ufffd" if unfit else character


def _choice(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"<p>{_escape(names[0])}</p>"
    options = "".join(f"<option>{_escape(name)}</option>" for name in names)
    return f'<p><label for="cell">Cell</label> <select id="cell">{options}</select></p>'


def _colours() -> str:
    rules = []
    for step, level in enumerate(LEVELS):
        strength = (step - MIDDLE) / MIDDLE
        if strength:
            colour = POSITIVE if strength > 0 else NEGATIVE
            rules.append(f".{level}{{background:rgba({colour},{abs(strength) * OPACITY:.3f})}}")
    strong = ",".join(f"#text .{level}" for level in LEVELS[MIDDLE + 5 :])
    return "\n".join([*rules, f"{strong}{{box-shadow:inset 0 -1px currentColor}}"])


_STYLE = """\
:root{color-scheme:light dark;--page:#fff;--ink:#111}
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;
 background:var(--page);color:var(--ink)}
header{position:sticky;top:0;z-index:1;padding:.3rem 0;background:var(--page)}
h1{font-size:1.3rem;margin:0 0 .5rem}
p{margin:.4rem 0}
select{font:inherit;max-width:100%}
#legend{display:flex;align-items:center;gap:.5rem;flex-wrap:wrap}
#legend div{display:flex;border:1px solid #888}
#legend div span{width:.7rem;height:1rem}
#text{font:15px/1.7 ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;
 overflow-wrap:anywhere;margin-top:.5rem;padding:.6rem;border:1px solid #888;tab-size:8}
#text span{padding:.12em 0;scroll-margin:9rem 0 2rem}
#text .end::before{content:"\\21B5";opacity:.45}
#text .here{outline:2px solid currentColor}
:focus-visible{outline:3px solid #e69f00;outline-offset:2px}
output{font-variant-numeric:tabular-nums;min-height:1.5em;display:block}
@media (prefers-color-scheme:dark){:root{--page:#16181c;--ink:#eee}}
"""

# Characters are found by their place among the spans; their numbers by the letter of their level.
_SCRIPT = """\
const cells = JSON.parse(document.getElementById("levels").textContent);
const text = document.getElementById("text"), spans = text.children;
const choice = document.getElementById("cell"), note = document.getElementById("note");
let place = -1;
const cell = () => choice ? choice.selectedIndex : 0;
function paint() {
  const levels = cells[cell()];
  for (let k = 0; k < spans.length; k++) {
    spans[k].className = levels[k] + (spans[k].textContent === "\\n" ? " end" : "");
  }
  if (place >= 0) tell(place);
}
function tell(k) {
  if (place >= 0) spans[place].classList.remove("here");
  place = k;
  spans[k].classList.add("here");
  const value = (cells[cell()].charCodeAt(k) - 107) / 10;
  const names = {"\\n": "line end", " ": "space", "\\t": "tab"};
  const shown = spans[k].textContent;
  note.textContent = `character ${k + 1} of ${spans.length}, ` +
    `${names[shown] || "\\u201c" + shown + "\\u201d"}: ` +
    (value > 0 ? "+" : value < 0 ? "\\u2212" : "") + Math.abs(value).toFixed(1);
}
const steps = {ArrowRight: 1, ArrowLeft: -1, PageDown: 50, PageUp: -50,
  Home: -Infinity, End: Infinity};
text.addEventListener("keydown", event => {
  if (!(event.key in steps) || !spans.length || event.ctrlKey || event.altKey || event.metaKey)
    return;
  tell(Math.min(Math.max(place + steps[event.key], 0), spans.length - 1));
  spans[place].scrollIntoView({block: "nearest"});
  event.preventDefault();
});
text.addEventListener("pointerover", event => {
  if (event.target.parentNode === text) tell([].indexOf.call(spans, event.target));
});
if (choice) choice.addEventListener("change", paint);
paint();
"""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<h1>{title}</h1>
<header>
{choice}
<div id="legend"><span>&minus;1</span>
<div role="img" aria-label="blue below zero, orange above">{legend}</div><span>+1</span></div>
<output id="note">Point at a character, or use the arrow keys in the text, for its number.</output>
</header>
<div id="text" role="application" tabindex="0"
 aria-label="The text; arrow keys tell the activation after each character">{spans}</div>
<script type="application/json" id="levels">{data}</script>
<script>
{script}</script>
</body>
</html>
"""
