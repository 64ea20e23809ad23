"""The results as tables: printed, and written into README.md and docs/benchmarks.md.

`python benches/speed/report.py` writes those of the last results anew. It needs nothing installed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
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
    """A ratio, in two figures below ten."""
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


def iterations(results: Result) -> Table:
    peers = sorted({name for row in results["iterations"] for name in row.get("peers", {})})
    head = [
        "rows × d, k",
        "data",
        "entropy",
        "polars-gmm",
        "scikit-learn",
        *peers,
        "ratio (of rounds)",
    ]
    return [head] + [
        [
            shape(row),
            row["data"],
            f"{row['entropy']:.2f}",
            seconds_of(row, "ours"),
            seconds_of(row, "scikit-learn"),
            *(
                time(row["peers"][p]["seconds"]) if p in row.get("peers", {}) else "–"
                for p in peers
            ),
            spread(row["ratios"]["scikit-learn"]),
        ]
        for row in results["iterations"]
    ]


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
    return [
        ["expression", "rows × d, k", "data", "polars-gmm", "scikit-learn", "ratio (of rounds)"]
    ] + [
        [
            f"`{row['what']}`",
            shape(row),
            row["data"],
            seconds_of(row, "ours"),
            seconds_of(row, "scikit-learn"),
            spread(row["ratios"]["scikit-learn"]),
        ]
        for row in results["scoring"]
    ]


def fits(results: Result) -> Table:
    rows = results["fits"]
    table = [
        ["scikit-learn", "fits", "geometric mean", "least", "most", "slower than scikit-learn"]
    ]
    for side in ("scikit-learn, n_init=10", "scikit-learn, default"):
        all_of_them = ratios(rows, side)
        table.append(
            [
                "`n_init=10, tol=1e-6, max_iter=1000`" if "10" in side else "all defaults",
                str(len(rows)),
                times(geometric_mean(all_of_them)),
                times(min(all_of_them)),
                times(max(all_of_them)),
                str(sum(x < 1 for x in all_of_them)),
            ]
        )
    return table


def groups(results: Result) -> Table:
    table = [
        [
            "groups",
            "rows each × d, k",
            "polars-gmm",
            "scikit-learn, a loop",
            "ratio (of rounds)",
            "as good",
        ]
    ]
    for row in results["groups"]:
        table.append(
            [
                f"{row['groups']:,}",
                f"{row['size']} × {row['d']}, k = {row['k']}",
                seconds_of(row, "ours"),
                seconds_of(row, "scikit-learn"),
                spread(row["ratios"]["scikit-learn"]),
                f"{row['as_good']:.1%}",
            ]
        )
    return table


def peak(results: Result) -> Table:
    return [["rows × d, k", "entropy", "multiply-adds a second", "of the peak"]] + [
        [
            shape(row),
            f"{row['entropy']:.2f}",
            f"{row['rate'] / 1e9:.1f}·10⁹",
            f"{row['fraction']:.0%}",
        ]
        for row in results["peak"]
    ]


def memory(results: Result) -> Table:
    return [["rows × d, k", "its columns", "a rows × k matrix would be", "beyond the columns"]] + [
        [shape(row), mib(row["columns_mib"]), mib(row["matrix_mib"]), mib(row["beyond_mib"])]
        for row in results["memory"]
    ]


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
    lines = [
        "  ".join(x.ljust(w) for x, w in zip(line, widths, strict=True)).rstrip() for line in table
    ]
    return "\n".join(lines) + "\n"


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
        f"{machine['processor']}, {machine['architecture']}, {machine['system']}; {machine['threads']} of"
        f" {machine['cores']} cores, on which {rate:.0f}·10⁹ fused multiply-adds a second were measured"
        f" in vectors of {machine['lanes']}. polars-gmm {ours}, {others}."
    )
    if machine["load"] > BUSY:
        text += (
            f" The machine was busy (load {machine['load']:.1f}): only the ratios mean something."
        )
    if results["absent"]:
        text += f" Not installed, and so not measured: {', '.join(results['absent'])}."
    return text


def missed(results: Result) -> list[str]:
    """What falls short of its goal."""
    said = []
    for row in [
        *results["iterations"],
        *results["m_steps"],
        *results["scoring"],
        *results["groups"],
    ]:
        side = "NumPy einsum" if "NumPy einsum" in row["ratios"] else "scikit-learn"
        ratio = row["ratios"][side]["ratio"]
        if ratio < row["goal"]:
            name = row.get("what") or row.get("data") or "groups"
            size = shape(row) if "n" in row else f"{row['groups']:,} groups"
            said.append(f"{name}, {size}: {times(ratio)} of {row['goal']}×")
    ten = geometric_mean(ratios(results["fits"], "scikit-learn, n_init=10"))
    said += [f"whole fits: {times(ten)} of 10×"] if ten < 10 else []
    for row in results["peak"]:
        if row["fraction"] < row["goal"]:
            said.append(f"{shape(row)}: {row['fraction']:.0%} of the peak, of {row['goal']:.0%}")
    for row in results["memory"]:
        if row["beyond_mib"] > row["goal"]:
            said.append(f"{shape(row)}: {mib(row['beyond_mib'])} of {mib(row['goal'])}")
    row = results["components"][0]
    if row["ratios"]["256"]["ratio"] > row["goal"]:
        said.append(f"256 components: {row['ratios']['256']['ratio']:.1f} of {row['goal']}")
    return said


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


def printed(results: Result) -> str:
    parts = [f"{title}\n\n{aligned(table(results))}" for title, table in SECTIONS.items()]
    short = missed(results) or ["none"]
    goals = "Goals missed\n\n" + "\n".join(short)
    return "\n".join([*parts, components(results), "", where(results), "", goals])


def readme(results: Result) -> str:
    """One line for what each table of the page says."""
    head = ["what", "rows × d, k", "data", "polars-gmm", "beside it", "times as fast"]
    rows = [head]
    for row in results["iterations"]:
        rows.append(line(row, "an iteration of EM", "scikit-learn"))
    for row in results["m_steps"]:
        rows += [line(row, "M-step alone", side) for side in ("NumPy einsum", "NumPy loop")]
    for row in results["scoring"]:
        if row["data"] == "overlapping":
            rows.append(line(row, f"`{row['what']}`", "scikit-learn"))
    text = markdown(rows)
    for row in results["groups"]:
        text += (
            f"\n{row['groups']:,} groups of {row['size']} rows, d = {row['d']}, k = {row['k']}, one default"
            f" fit each: {seconds_of(row, 'ours')}, where a loop over scikit-learn takes"
            f" {seconds_of(row, 'scikit-learn')} ({times(row['ratios']['scikit-learn']['ratio'])})."
        )
    of_ten = ratios(results["fits"], "scikit-learn, n_init=10")
    default = ratios(results["fits"], "scikit-learn, default")
    text += (
        f"\nWhole default fits of {len(of_ten)} small cases: scikit-learn's best of ten takes"
        f" {times(geometric_mean(of_ten))} the time, and its default, which is one run of a looser rule,"
        f" {times(geometric_mean(default))}: {sum(x < 1 for x in default)} of them are slower here.\n"
    )
    return f"{text}\n{where(results)}\n"


def line(row: Result, what: str, side: str) -> list[str]:
    theirs = f"{side} {seconds_of(row, side)}"
    return [
        what,
        shape(row),
        row["data"],
        seconds_of(row, "ours"),
        theirs,
        times(row["ratios"][side]["ratio"]),
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
        figures = readme(results) if name == "readme" else page(results, name)
        parts[i] = f"{name} -->\n\n{figures}\n{END}{after}"
    return BEGIN.join(parts)


PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")


def write_pages() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    for path in PAGES:
        path.write_text(filled(path.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    write_pages()
