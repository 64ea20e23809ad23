"""The results as tables: printed, and written into README.md and docs/benchmarks.md.

`python benches/speed/report.py` writes those of the last results anew. It needs nothing installed.
A marker `speed: table` stands before a table of the last results, `speed: table of FILE` before one
of results that were measured elsewhere and kept beside them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

Result = dict[str, Any]
Table = list[list[str]]

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benches" / "results" / "speed.json"
BEGIN, END = "<!-- speed: ", "<!-- end of speed -->"


BUSY = 0.5  # processes that wanted to run before the first measurement


# -- numbers -------------------------------------------------------------------------------------


def time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.9995 * size:
            return f"{figures(seconds / size)} {unit}"
    return f"{figures(seconds / 1e-6)} µs"


def figures(x: float) -> str:
    """Three of them."""
    decimals = max(0, 2 - math.floor(math.log10(x))) if x > 0 else 0
    return f"{x:,.{decimals}f}"


def times(x: float) -> str:
    """A ratio, in two figures."""
    if x < 0.995:
        return f"{x:.2f}×"
    return f"{x:.1f}×" if x < 9.95 else f"{x:,.0f}×"


def spread(ratio: Result) -> str:
    return f"{times(ratio['ratio'])} ({times(ratio['low'])} to {times(ratio['high'])})"


def shape(row: Result) -> str:
    return f"{row['n']:,} × {row['d']}, k = {row['k']}"


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(x) for x in values]
    return math.exp(sum(logs) / len(logs))


def ratios(rows: list[Result], side: str) -> list[float]:
    return [row["ratios"][side]["ratio"] for row in rows]


def seconds_of(row: Result, side: str) -> str:
    return time(row["times"][side]["seconds"])


# -- tables --------------------------------------------------------------------------------------

SKLEARN, ONE = "scikit-learn", "scikit-learn, one BLAS thread"
BESIDE_SKLEARN = ["polars-gmm", SKLEARN, "its BLAS on one thread", "ratio (of rounds)", "to one"]


def beside_sklearn(row: Result) -> list[str]:
    sides = [seconds_of(row, side) for side in ("ours", SKLEARN, ONE)]
    return [*sides, spread(row["ratios"][SKLEARN]), times(row["ratios"][ONE]["ratio"])]


def iterations(results: Result) -> Table:
    rows = results["iterations"]
    peers = sorted({name for row in rows for name in row.get("peers", {})})

    def peer(row: Result, name: str) -> str:
        return time(row["peers"][name]["seconds"]) if name in row.get("peers", {}) else "–"

    table = [["rows × d, k", "data", "entropy", *BESIDE_SKLEARN, *peers]]
    for row in rows:
        about = [shape(row), row["data"], f"{row['entropy']:.2f}"]
        table.append(about + beside_sklearn(row) + [peer(row, name) for name in peers])
    return table


def beside(rows: list[Result], what: Callable[[Result], str], head: str) -> Table:
    """A line for each side of each row."""
    table = [[head, "rows × d, k", "by", "time", "ratio (of rounds)"]]
    for row in rows:
        for side in row["times"]:
            name = "polars-gmm" if side == "ours" else side
            ratio = spread(row["ratios"][side]) if side in row["ratios"] else "1"
            table.append([what(row), shape(row), name, seconds_of(row, side), ratio])
    return table


def m_steps(results: Result) -> Table:
    return beside(results["m_steps"], lambda row: row["data"], "data")


def small(results: Result) -> Table:
    return beside(results["small"], lambda row: f"`{row['what']}`", "call")


def scoring(results: Result) -> Table:
    head = ["expression", "rows × d, k", "data", *BESIDE_SKLEARN]
    return [head] + [
        [f"`{row['what']}`", shape(row), row["data"], *beside_sklearn(row)]
        for row in results["scoring"]
    ]


FITS = {
    "`n_init=10, tol=1e-6, max_iter=1000`": "scikit-learn, n_init=10",
    "the same, its BLAS on one thread": "scikit-learn, n_init=10, one BLAS thread",
    "all defaults": "scikit-learn, default",
    "all defaults, its BLAS on one thread": "scikit-learn, default, one BLAS thread",
}


def fits(results: Result) -> Table:
    table = [[SKLEARN, "fits", "geometric mean", "least", "most", "faster than polars-gmm"]]
    measured = results["fits"][0]["ratios"]
    for name, side in FITS.items():
        if side not in measured:  # in a quick run
            continue
        each = ratios(results["fits"], side)
        ends = [times(geometric_mean(each)), times(min(each)), times(max(each))]
        table.append([name, str(len(each)), *ends, str(sum(x < 1 for x in each))])
    return table


def groups(results: Result) -> Table:
    table = [["groups", "rows each × d, k", *BESIDE_SKLEARN, "as good"]]
    for row in results["groups"]:
        of = f"{row['size']} × {row['d']}, k = {row['k']}"
        table.append([f"{row['groups']:,}", of, *beside_sklearn(row), f"{row['as_good']:.1%}"])
    return table


def peak(results: Result) -> Table:
    table = [["rows × d, k", "entropy", "multiply-adds a second", "of the peak"]]
    for row in results["peak"]:
        rate = f"{row['rate'] / 1e9:.1f}·10⁹"
        table.append([shape(row), f"{row['entropy']:.2f}", rate, f"{row['fraction']:.0%}"])
    return table


def memory(results: Result) -> Table:
    figures = ("columns_mib", "matrix_mib", "beyond_mib", "of_all_starts_mib")
    head = ["its columns", "a rows × k matrix would be", "from one start", "from all starts"]
    rows = [[shape(row), *(mib(row[figure]) for figure in figures)] for row in results["memory"]]
    return [["rows × d, k", *head], *rows]


def beyond(row: Result) -> float:
    """MiB of a fit beyond its columns, at most."""
    return float(max(row["beyond_mib"], row["of_all_starts_mib"]))


def mib(x: float) -> str:
    return f"{x:,.0f} MiB"


def threads(results: Result) -> Table:
    rows = results["threads"]
    alone = rows[0]["times"]["ours"]["seconds"]
    return [["threads", "rows × d, k", "time", "times as fast as one"]] + [
        [
            str(row["threads"]),
            shape(row),
            seconds_of(row, "ours"),
            f"{alone / row['times']['ours']['seconds']:.2f}",
        ]
        for row in rows
    ]


def markdown(table: Table) -> str:
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def aligned(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    padded = ([x.ljust(w) for x, w in zip(line, widths, strict=True)] for line in table)
    return "".join("  ".join(line).rstrip() + "\n" for line in padded)


# -- sentences -----------------------------------------------------------------------------------


def components(results: Result) -> str:
    row = results["components"][0]
    ratio = row["ratios"]["256"]["ratio"]
    return (
        f"{row['n']:,} × {row['d']} separated rows: an iteration with 256 components takes"
        f" {ratio:.1f} times one with 16."
    )


def where(results: Result) -> str:
    machine, versions = results["machine"], dict(results["versions"])
    ours = versions.pop("polars-gmm")
    others = ", ".join(f"{name} {version}" for name, version in versions.items())
    rate = machine["fma_per_second"] / 1e9
    text = (
        f"{machine['processor']}, {machine['architecture']}, {machine['system']};"
        f" {machine['threads']} of {machine['cores']} cores, which did {rate:.0f}·10⁹ fused"
        f" multiply-adds a second, {machine['lanes']} in a vector. polars-gmm {ours}, {others}."
    )
    if results["absent"]:
        text += f" Not installed, and so not measured: {', '.join(results['absent'])}."
    if machine["load"] > BUSY:
        text += f" The machine was busy with other work (load {machine['load']:.1f})."
    return text


def missed(results: Result) -> list[str]:
    """What falls short of its goal, with as many threads on both sides."""
    many = results["components"][0]
    said = [
        (
            ratio_to_goal(row) >= row["goal"],
            f"{named(row)}: {times(ratio_to_goal(row))}",
            row["goal"],
        )
        for name in ("iterations", "m_steps", "scoring", "groups")
        for row in results[name]
    ]
    if "scikit-learn, n_init=10" in results["fits"][0]["ratios"]:
        ten = geometric_mean(ratios(results["fits"], "scikit-learn, n_init=10"))
        said += [(ten >= 10, f"whole fits: {times(ten)}", 10)]
    said += [
        (row["fraction"] >= row["goal"], f"peak, {shape(row)}: {row['fraction']:.0%}", row["goal"])
        for row in results["peak"]
    ]
    said += [
        (beyond(row) <= row["goal"], f"{shape(row)}: {mib(beyond(row))}", row["goal"])
        for row in results["memory"]
    ]
    costs = many["ratios"]["256"]["ratio"]
    said += [(costs <= many["goal"], f"256 components: {costs:.1f} times 16", many["goal"])]
    return [f"{sentence}, goal {goal}" for met, sentence, goal in said if not met]


def ratio_to_goal(row: Result) -> float:
    side = "NumPy einsum" if "NumPy einsum" in row["ratios"] else SKLEARN
    return row["ratios"][side]["ratio"]


def named(row: Result) -> str:
    if "groups" in row:
        return f"{row['groups']:,} groups"
    what = row.get("what", "M-step" if "NumPy einsum" in row["ratios"] else "iteration")
    return f"{what}, {shape(row)}, {row['data']}"


# -- where they stand ----------------------------------------------------------------------------

SECTIONS: dict[str, Callable[[Result], Table]] = {
    "One iteration of EM": iterations,
    "The M-step alone": m_steps,
    "Scoring": scoring,
    "Whole fits": fits,
    "A mixture per group": groups,
    "The peak of the machine": peak,
    "Memory": memory,
    "Threads": threads,
    "Small calls": small,
}


def printed(results: Result, *, goals: bool) -> str:
    """All tables, and the goals missed if the results are of the rows these are set for."""
    parts = [f"{title}\n\n{aligned(table(results))}" for title, table in SECTIONS.items()]
    parts += [components(results), "", where(results)]
    if goals:
        parts += ["", "Goals missed", "", *(missed(results) or ["none"])]
    return "\n".join(parts)


def readme(results: Result) -> str:
    """The lines most people look for, and how often others win."""
    table = [["what", "rows × d, k", "data", "polars-gmm", "beside it", "ratio"]]
    for row in results["iterations"]:
        table += lines(row, "an iteration of EM", SKLEARN)
    for row in results["m_steps"]:
        for side in ("NumPy einsum", "NumPy loop"):
            table += lines(row, "the M-step alone", side, but="columns contiguous")
            table += lines(row, "the M-step alone", f"{side}, columns contiguous")
    for row in results["scoring"]:
        if row["data"] == "overlapping":
            table += lines(row, f"`{row['what']}`", SKLEARN)
    return markdown(table) + "\n" + "\n".join([*summaries(results), where(results)]) + "\n"


def lines(row: Result, what: str, side: str, but: str = "nothing") -> Table:
    """A line for a side that was there, with what is faster of all threads and one for its BLAS."""
    names = [name for name in row["times"] if name.startswith(side) and but not in name]
    if not names:
        return []
    best = min(names, key=lambda name: row["times"][name]["seconds"])
    theirs = f"{side} {seconds_of(row, best)}"
    ratio = times(row["ratios"][best]["ratio"])
    return [[what, shape(row), row["data"], seconds_of(row, "ours"), theirs, ratio]]


def summaries(results: Result) -> list[str]:
    row = results["groups"][0]
    loop = times(row["ratios"][ONE]["ratio"])
    ten = ratios(results["fits"], FITS["the same, its BLAS on one thread"])
    default = ratios(results["fits"], FITS["all defaults, its BLAS on one thread"])
    fractions = [row["fraction"] for row in results["peak"]]
    d = [row["d"] for row in results["peak"]]
    most = max((beyond(row) for row in results["memory"]), default=math.nan)
    lost = sum(any(r["ratio"] < 1 for r in x["ratios"].values()) for x in results["small"])
    return [
        "What stands beside it has as many threads, or one for its BLAS where that is faster.",
        f"{row['groups']:,} groups of {row['size']} rows, a default fit each: {loop} as fast as a",
        "loop over scikit-learn.",
        f"With {min(d)} to {max(d)} features, an iteration on overlapping data runs at"
        f" {min(fractions):.0%} to {max(fractions):.0%}",
        f"of the peak of the processor. A fit takes at most {mib(most)} beyond its columns here.",
        f"Whole default fits of {len(ten)} small cases: {times(geometric_mean(ten))} as fast as",
        f"scikit-learn's best of ten, and {times(geometric_mean(default))} as fast as its default,",
        "which is one run of a looser rule. Others are faster in"
        f" {sum(x < 1 for x in default)} of those defaults",
        f"and in {lost} of {len(results['small'])} calls on a thousand rows and fewer.\n",
    ]


def page(results: Result, table: str) -> str:
    if table == "components":
        return components(results) + "\n"
    if table == "where":
        return where(results) + "\n"
    return markdown(globals()[table](results))


def filled(text: str, results: Result) -> str:
    """The page with the figures of the results: what stands between a marker and its end."""
    parts = text.split(BEGIN)
    for i, part in enumerate(parts[1:], start=1):
        name, rest = part.split(" -->\n", 1)
        _, after = rest.split(END, 1)
        table, _, file = name.partition(" of ")
        shown = kept(file) if file else results
        figures = readme(shown) if table == "readme" else page(shown, table)
        parts[i] = f"{name} -->\n\n{figures}\n{END}{after}"
    return BEGIN.join(parts)


@cache
def kept(file: str) -> Result:
    results: Result = json.loads((RESULTS.parent / file).read_text(encoding="utf-8"))
    return results


PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")


def write_pages() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    for path in PAGES:
        path.write_text(filled(path.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    write_pages()
