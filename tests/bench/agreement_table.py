"""The block on agreement."""

from __future__ import annotations

from pathlib import Path

UNITS = 100_000
RATERS = 5
RESAMPLES = 1_000
PLAIN_RESAMPLES = 10


def agreement(folder: Path) -> list[tuple[str, str, str, str]]:
    """Alpha and its interval, against the public libraries."""
    from tests.bench.__main__ import job, line

    lines = []
    for metric in ("nominal", "interval"):
        ours = job(folder, "our_alpha", UNITS, RATERS, metric)
        lines.append((f"alpha, {metric}, {UNITS:,} units × {RATERS}", *_cells(ours), "1"))
        for library in ("krippendorff", "irrcac", "nltk"):
            theirs = job(folder, f"{library}_alpha", UNITS, RATERS, metric)
            apart = abs(theirs["value"] - ours["value"])
            more = theirs["peak_mb"] / ours["peak_mb"]
            ratio = (
                f"{theirs['seconds'] / ours['seconds']:,.1f} × the seconds, {more:.2f} × memory; value {apart:.0e} off"
            )
            lines.append((f"the same, `{library}`", *_cells(theirs), ratio))
    plain = job(folder, "plain_bootstrap", UNITS, RATERS, PLAIN_RESAMPLES)
    lines.append(line(f"{PLAIN_RESAMPLES} resamples of the matrix, `krippendorff` on each", plain, None))
    for name, what in (("krippendorff_alpha", "alpha"), ("conger_kappa", "Conger's kappa")):
        ours = job(folder, "our_bootstrap", UNITS, RATERS, name, RESAMPLES)
        what, speed, memory, ratio = line(f"{RESAMPLES:,} resamples, {what}", ours, plain)
        lines.append((f"{what}: {ours['seconds']:.2f} s", speed, memory, ratio))
    fitted = job(folder, "our_dawid_skene", UNITS, RATERS)
    lines.append((f"Dawid-Skene on the same, {fitted['steps']} steps", *_cells(fitted), ""))
    return lines


def _cells(found: dict[str, float]) -> tuple[str, str]:
    return f"{found['seconds']:.3f} s", f"{found['peak_mb']:,.0f} MB"
