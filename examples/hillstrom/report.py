"""Shows what was measured: a table, a file of figures, a plot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import msgspec
from rich.table import Table

from examples.hillstrom.figures import Curve, GetOffer, Row, ci95, row_json
from policies.intervals import Estimate
from simulator.evaluation import Value

mpl.use("Agg")

from matplotlib import pyplot as plt

__all__ = ["Report"]

_LEARNED = "tab:green"
_COLORS = {"": "0.6", "mens": "tab:blue", "womens": "tab:orange"}
_LABELS = {"": "no offer", "mens": "men's goods", "womens": "women's goods"}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the demo says at its end.

    Attributes:
        seed: What the order and the ids derive from.
        decisions: How many customers were decided for.
        learned: The learning policy, on the customers whose outcome is known.
        uniform: The experiment, on all customers.
        fixed: Each offer to everybody, the empty one for none.
        learnable: The best that can be learned from the experiment.
        frozen: The policy as it was at the end, by estimator.
        get_offer: How long GetOffer took.
        curve: How the policy got better.
        caps_broken: How many offers were shown beyond a cap.
        outcomes_lost: How many acknowledged outcomes the file lacks.
        unmatched_trained: How many decisions that were never shown were learned from.
        again_after_shown: Of how many customers who were shown an offer and asked
            for again how many were given the same one.
        again_after_not_shown: The same of those whose offer was not shown.
        replayed: How many decisions were made again from the log, and how many of
            them came out identical.
        models: How many models decided.
        learned_rows: How many rewards the last model has learned.
        story: The story's lines.
        seconds: How long each part took.
    """

    seed: int
    decisions: int
    learned: Row
    uniform: Row
    fixed: dict[str, Row]
    learnable: Row
    frozen: dict[str, Value]
    get_offer: GetOffer
    curve: Curve
    caps_broken: int
    outcomes_lost: int
    outcomes: int
    unmatched_trained: int
    again_after_shown: tuple[int, int]
    again_after_not_shown: tuple[int, int]
    replayed: int
    identical: int
    models: int
    learned_rows: int
    story: list[str]
    seconds: dict[str, float]

    @property
    def best_fixed(self) -> str:
        """The offer that earns the most if everybody gets it."""
        return max(self.fixed, key=lambda o: self.fixed[o].visit_rate.value)

    @property
    def nearness(self) -> tuple[float, list[float]]:
        """The learning policy's visits as a share of the best learnable, with interval.

        The interval is that of the learning policy; the best is taken as it is.
        """
        best = self.learnable.visit_rate.value
        rate = self.learned.visit_rate
        return rate.value / best, [rate.low / best, rate.high / best]

    def table(self) -> Table:
        """Return what each policy earned."""
        table = Table(title="What customers did, by who decided, with 95 % intervals")
        table.add_column("policy")
        for name in ("n", "visit rate", "conversion", "spend, $"):
            table.add_column(name, justify="right")
        table.add_row("[bold]learning while serving", *_cells(self.learned))
        for name, value in self.frozen.items():
            table.add_row(
                f"frozen at the end, {name.upper()}",
                f"{value.n:,}",
                _interval(value.value, value.low, value.high, percent=True),
            )
        table.add_section()
        table.add_row("the experiment, at random", *_cells(self.uniform))
        for offer_id, row in self.fixed.items():
            best = " (best)" if offer_id == self.best_fixed else ""
            table.add_row(f"{_LABELS[offer_id]} for all{best}", *_cells(row))
        table.add_section()
        table.add_row("best that can be learned", *_cells(self.learnable))
        return table

    def summary(self) -> list[str]:
        """Return what is said below the table, a thought a line."""
        return [
            *self._near(),
            *self._frozen(),
            *self._speed(),
            *self._promises(),
            *self._repeating(),
        ]

    def _near(self) -> Iterator[str]:
        near, (low, high) = self.nearness
        rate, chance = self.learned.visit_rate, self.uniform.visit_rate.value
        there = self.learnable.visit_rate.value - chance
        above = "above" if rate.low > chance else "not above"
        yield (
            f"Learning while serving earned {near:.1%} [{low:.1%}, {high:.1%}] of the"
            " visits of the best policy that can be learned from this experiment, and"
            f" {(rate.value - chance) / there:.0%} of what that adds to chance. Its"
            f" interval is {above} the experiment's rate."
        )

    def _frozen(self) -> Iterator[str]:
        yield (
            "The frozen policy is estimated from rewards that it has learned from: a"
            " little too good. The few of the story are among them."
        )
        for doubt in self.frozen["snips"].doubts:
            yield f"Do not decide on the frozen policy's numbers: {doubt}."

    def _speed(self) -> Iterator[str]:
        speed = self.get_offer
        yield (
            f"GetOffer: {speed.per_s:,.0f} decisions/s, p50 {speed.p50_ms:.1f} ms, p99"
            f" {speed.p99_ms:.1f} ms, with {speed.in_flight} customers under way at"
            " once: all that client, server and learner can do together on this"
            f" machine. With nothing else under way p50 is {speed.alone_p50_ms:.1f} ms."
        )

    def _promises(self) -> Iterator[str]:
        again, of = self.again_after_shown
        hidden_again, hidden_of = self.again_after_not_shown
        yield (
            f"Caps broken: {self.caps_broken}. Outcomes lost: {self.outcomes_lost} of"
            f" {self.outcomes:,}. Learned from what was never shown:"
            f" {self.unmatched_trained} decisions."
        )
        yield (
            f"Asked for again, {again} of {of} who had been shown an offer got it once"
            f" more, and {hidden_again} of {hidden_of} who had not."
        )
        yield (
            f"Made again from the log: {self.replayed:,} decisions by {self.models}"
            f" models, {self.identical:,} identical."
        )

    def _repeating(self) -> Iterator[str]:
        yield (
            f"SEED={self.seed} fixes the customers' order, the ids of requests and"
            " decisions, and so every draw. Which model served which request depends"
            " on how fast the machine was, and may differ between two runs."
        )

    def write(self, folder: Path) -> list[Path]:
        """Write the figures and the plot, and return where they are."""
        folder.mkdir(parents=True, exist_ok=True)
        figures, plot = folder / "demo.json", folder / "demo.png"
        text = msgspec.json.format(msgspec.json.encode(self.to_json()), indent=2)
        figures.write_bytes(text + b"\n")
        self._plot(plot)
        return [figures, plot]

    def to_json(self) -> dict[str, Any]:
        """Return every figure, under the names that others read."""
        near, near_ci95 = self.nearness
        offer = self.best_fixed
        return {
            "seed": self.seed,
            "decisions": self.decisions,
            "matched": self.learned.n,
            "learned": row_json(self.learned),
            "uniform": row_json(self.uniform),
            "best_fixed": {"offer_id": offer, **row_json(self.fixed[offer])},
            "fixed": {
                offer_id or "no_offer": row_json(row)
                for offer_id, row in self.fixed.items()
            },
            "best_learnable": row_json(self.learnable),
            "learned_over_best": {"value": near, "ci95": near_ci95},
            "frozen": {
                "snips": self.frozen["snips"].value,
                "snips_ci95": [self.frozen["snips"].low, self.frozen["snips"].high],
                "dr": self.frozen["dr"].value,
                "dr_ci95": [self.frozen["dr"].low, self.frozen["dr"].high],
                "n": self.frozen["snips"].n,
                "ess": self.frozen["snips"].ess,
                "doubts": self.frozen["snips"].doubts,
                "model_position": self.learned_rows,
            },
            "caps_broken": self.caps_broken,
            "outcomes_lost": self.outcomes_lost,
            "outcomes": self.outcomes,
            "unmatched_trained": self.unmatched_trained,
            "again_after_shown": self.again_after_shown,
            "again_after_not_shown": self.again_after_not_shown,
            "get_offer": self.get_offer,
            "replay": {
                "decisions": self.replayed,
                "identical": self.identical,
                "models": self.models,
            },
            "curve": self.curve,
            "story": self.story,
            "seconds": self.seconds,
        }

    def _plot(self, path: Path) -> None:
        made = self.curve
        figure, (rates, shares) = plt.subplots(
            2,
            1,
            figsize=(10, 7),
            sharex=True,
            height_ratios=(3, 2),
            layout="constrained",
        )
        block = f"each {made.customers[0]:,} customers served"
        rates.plot(made.customers, made.block_rate, ".", color="0.7", label=block)
        rates.fill_between(
            made.customers,
            made.low,
            made.high,
            color=_LEARNED,
            alpha=0.25,
            lw=0,
            label="95 % interval",
        )
        rates.plot(
            made.customers,
            made.visit_rate,
            color=_LEARNED,
            label="learning policy, so far",
        )
        uniform = self.uniform.visit_rate.value
        best = self.fixed[self.best_fixed].visit_rate.value
        rates.axhline(uniform, color="black", ls=":", label="the experiment, at random")
        rates.axhline(
            best, color="black", ls="--", label=f"{_LABELS[self.best_fixed]} for all"
        )
        rates.set_ylabel("visited, of those matched")
        rates.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=0))
        middle, half = (uniform + best) / 2, max(best - uniform, 0.02) * 2
        rates.set_ylim(max(middle - half, 0.0), middle + half)
        rates.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
        rates.set_title(
            f"Learning from {self.learned.n:,} matched of {self.decisions:,} customers,"
            f" SEED={self.seed}"
        )
        shares.stackplot(
            made.customers,
            list(made.shares.values()),
            labels=[_LABELS[offer_id] for offer_id in made.shares],
            colors=[_COLORS[offer_id] for offer_id in made.shares],
        )
        shares.set_ylabel("chosen")
        shares.set_xlabel("customers served")
        shares.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=0))
        shares.set_ylim(0, 1)
        shares.margins(x=0)
        shares.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,.0f}"))
        handles, labels = shares.get_legend_handles_labels()
        shares.legend(
            handles[::-1],
            labels[::-1],
            loc="upper left",
            bbox_to_anchor=(1, 1),
            fontsize="small",
        )
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row.n:,}",
        _estimate(row.visit_rate, percent=True),
        _estimate(row.conversion_rate, percent=True),
        _estimate(row.spend, percent=False),
    )


def _estimate(estimate: Estimate | None, *, percent: bool) -> str:
    if estimate is None:
        return ""
    return _interval(estimate.value, *ci95(estimate), percent=percent)


def _interval(
    value: float | None, low: float | None, high: float | None, *, percent: bool
) -> str:
    if value is None or low is None or high is None:
        return "not known"
    if percent:
        return f"{value:.2%}\n[dim]{100 * low:.2f} – {100 * high:.2f}"
    return f"{value:.2f}\n[dim]{low:.2f} – {high:.2f}"
