"""What benchmarks of fastrnn beside one other share: both in turns, and a row of the table."""

from fastrnn.bench.measure import interleave


def in_turns(programs, seconds):
    """Time programs ``{name: Program}`` in turns; return their summaries, in seconds."""
    times, failures = interleave(programs, seconds)
    if failures:
        raise next(iter(failures.values()))
    return {name: t.summary() for name, t in times.items()}


def show_head(other):
    """Print the head of the table."""
    print(f"{'cell':9} {'T B I H layers dirs':20} {other:32} {'fastrnn':32} {'ratio':>6}  differ")


def show(case, summaries, difference):
    """Print a row, microseconds a call as median (quartiles); return the ratio of the medians."""

    def text(s):
        low, median, high = (1e6 * s[key] for key in ("q1", "median", "q3"))
        return f"{median:9.1f} ({low:.1f} to {high:.1f})"

    other, ours = summaries.values()
    ratio = other["median"] / ours["median"]
    cell, *shape = case
    print(
        f"{cell:9} {' '.join(map(str, shape)):20} {text(other):32} {text(ours):32} {ratio:6.2f}"
        f"  {difference:.0e}",
        flush=True,
    )
    return ratio
