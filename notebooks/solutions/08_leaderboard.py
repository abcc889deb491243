"""The exercises of lesson 08: the right answers, and the wrong ones that get advice of their own."""

from typing import Any

import numpy as np
from scipy.stats import norm, t

from course_lib.cli.exercises import Draw, Exercise


def two_averages(draw: Draw) -> Exercise:
    """The pictures' mean IoU, and the pooled IoU."""

    def right(overlap: Any, union: Any) -> Any:
        return (overlap / union).mean(), overlap.sum() / union.sum()

    cases = [
        (np.array([90, 1]), np.array([100, 10])),
        (np.array([10, 400, 35, 0]), np.array([40, 500, 50, 20])),
    ]
    if draw.cases:
        rng = np.random.default_rng(draw.seed(0))
        unions = [rng.integers(20, 600, pictures) for pictures in (3, 6, 4)]
        cases = [(rng.integers(1, union), union) for union in unions]
        cases[-1][0][rng.integers(4)] = 0
    mistakes = [
        (
            "The two swapped",
            lambda o, u: right(o, u)[::-1],
            "the other way round: first the pictures' mean, then the pooled IoU.",
        ),
        (
            "The pooled IoU divided by $n$ once more",
            lambda o, u: ((o / u).mean(), o.mean() / len(u) / u.mean()),
            "the sum of all overlaps over the sum of all unions; the number of pictures plays no part.",
        ),
        (
            "The pictures' mean twice",
            lambda o, u: ((o / u).mean(), (o / u).mean()),
            "that is the pictures' mean twice: to pool, sum first, and divide once.",
        ),
        (
            "The pooled IoU twice",
            lambda o, u: (o.sum() / u.sum(), o.sum() / u.sum()),
            "that is the pooled IoU twice: for the pictures' mean, divide first.",
        ),
        (
            "`(overlap / union).sum()`",
            lambda o, u: ((o / u).sum(), o.sum() / u.sum()),
            "the first is a sum: divide it by the number of pictures.",
        ),
        (
            "Weighted by union, but divided by the largest",
            lambda o, u: ((o / u).mean(), (o / u * u / u.max()).mean()),
            "weigh each picture by its union, and divide by the sum of the weights, not by the largest.",
        ),
        (
            "The median",
            lambda o, u: (np.median(o / u), o.sum() / u.sum()),
            "the mean is asked, not the median.",
        ),
        (
            "Overlap added below the line",
            lambda o, u: ((o / (u + o)).mean() * 2, 2 * o.sum() / (u + o).sum()),
            "that is Dice: IoU divides by `union` alone.",
        ),
    ]
    return Exercise(1, right, mistakes, cases)


def bootstrap_interval(draw: Draw) -> Exercise:
    """The ends of the interval of a mean, of 95 % in the course, from drawings with replacement."""
    level = draw.constant(95, 90, 80, 99)
    low, high = (100 - level) / 2, (100 + level) / 2
    z = norm.ppf(high / 100).round(2)

    def interval(means: Any, share: float = low) -> Any:
        return np.percentile(means, [share, 100 - share])

    def normal(difference: Any, draws: Any) -> Any:
        half = z * difference[draws].mean(1).std()
        return np.array([difference.mean() - half, difference.mean() + half])

    def student(difference: Any, draws: Any) -> Any:
        n = len(difference)
        half = t.ppf(high / 100, n - 1) * difference.std(ddof=1) / n**0.5
        return np.array([difference.mean() - half, difference.mean() + half])

    rng = np.random.default_rng(draw.seed(0))
    cases = [(rng.normal(0.1, 1, n), rng.integers(0, n, (60, n))) for n in (5, 12)]
    mistakes = [
        (
            "Percentiles of single differences, drawn",
            lambda d, i: interval(d[i]),
            "those are percentiles of single differences: take the mean of each drawing, a row, first.",
        ),
        (
            "Percentiles of single differences, not drawn",
            lambda d, i: interval(d),
            "the drawings are not used: that is the spread of the pictures, not of their mean.",
        ),
        (
            "`mean(0)`",
            lambda d, i: interval(d[i].mean(0)),
            "a drawing is a row: average over the columns, `mean(1)`.",
        ),
        (
            f"{2 * low:g} and {100 - 2 * low:g}",
            lambda d, i: interval(d[i].mean(1), 2 * low),
            f"{2 * low:g} % beyond each end leave {100 - 4 * low:g} %: "
            f"take the {low:g}th and the {high:g}th.",
        ),
        (
            f"{low / 100:g} and {high / 100:g}",
            lambda d, i: np.percentile(d[i].mean(1), [low / 100, high / 100]),
            f"np.percentile takes per cent: {low:g} and {high:g}.",
        ),
        (
            "The upper end first",
            lambda d, i: interval(d[i].mean(1))[::-1],
            "the lower end first.",
        ),
        ("Medians", lambda d, i: interval(np.median(d[i], 1)), "the mean of each drawing, not its median."),
        ("Sums", lambda d, i: interval(d[i].sum(1)), "those are sums: take means."),
        (
            rf"The mean $\pm\, {z:g}$ deviations",
            normal,
            "that takes the means for normally distributed; their percentiles need no such guess.",
        ),
        (
            "Student's interval",
            student,
            "that is lesson 06's interval, which does not draw: use the drawings' means.",
        ),
    ]
    constants = {"level": level, "lower": f"{low:g}th", "upper": f"{high:g}th"}
    return Exercise(2, lambda d, i: interval(d[i].mean(1)), mistakes, cases, constants=constants)


def choose_then_report(draw: Draw) -> Exercise:
    """The number of the method that is best where it may be chosen, and its mean elsewhere."""

    def on(scores: Any, chosen: Any, reported: Any) -> Any:
        winner = scores[:, chosen].mean(1).argmax()
        return winner, scores[winner, reported].mean()

    def everything(scores: Any, chooses: Any) -> Any:
        return np.ones(scores.shape[1], bool)

    def once(scores: Any, chooses: Any) -> Any:
        return np.unravel_index(scores[:, chooses].argmax(), scores[:, chooses].shape)[0]

    rng = np.random.default_rng(draw.seed(4))
    cases = []
    while len(cases) < 3:
        scores, chooses = rng.random((5, 12)).round(3), rng.random(12) < 0.5
        if chooses.all() or not chooses.any():
            continue
        means = [scores[:, part].mean(1) for part in (chooses, ~chooses, chooses | True)]
        ranks = {mean.argmax() for mean in means}
        ties = any(np.diff(np.sort(mean))[-1] < 1e-3 for mean in means)
        if len(ranks) == 3 and once(scores, chooses) not in ranks and not ties:
            cases.append((scores, chooses))
    mistakes = [
        (
            "Reported on the pictures that chose",
            lambda s, c: on(s, c, c),
            "that reports on the very pictures that chose the winner: take the others, `~chooses`.",
        ),
        (
            "Chosen and reported on the others",
            lambda s, c: on(s, ~c, ~c),
            "the pictures that are to report have chosen: choose where `chooses` is true.",
        ),
        (
            "`chooses` and `~chooses` swapped",
            lambda s, c: on(s, ~c, c),
            "the other way round: choose where `chooses` is true, report where it is not.",
        ),
        (
            "Chosen on all pictures",
            lambda s, c: on(s, everything(s, c), ~c),
            "all pictures chose the winner, those of the report too.",
        ),
        (
            "Chosen and reported on all pictures",
            lambda s, c: on(s, everything(s, c), everything(s, c)),
            "that chooses and reports on all pictures: it is the lottery.",
        ),
        (
            "Reported on all pictures",
            lambda s, c: on(s, c, everything(s, c)),
            "the pictures that chose the winner are in the report, too.",
        ),
        (
            "The best mean of the others, whoever has it",
            lambda s, c: (on(s, c, ~c)[0], s[:, ~c].mean(1).max()),
            "that is the best mean on the other pictures, whoever has it: report the winner's.",
        ),
        (
            "The method with the best single picture",
            lambda s, c: (once(s, c), s[once(s, c), ~c].mean()),
            "that method has the best single picture: the best mean wins.",
        ),
        ("The mean alone", lambda s, c: on(s, c, ~c)[1], "return two: the winner's number, and its mean."),
        ("The mean first", lambda s, c: on(s, c, ~c)[::-1], "the number first, then the mean."),
    ]
    return Exercise(3, lambda s, c: on(s, c, ~c), mistakes, cases)


def pareto_front(draw: Draw) -> Exercise:
    """Which methods no other dominates."""

    def front(s: Any, q: Any, slow: bool = False, bad: bool = False) -> Any:
        s, q = (-s if slow else s), (-q if bad else q)
        no_worse = (s[:, None] <= s) & (q[:, None] >= q)
        return ~(no_worse & ((s[:, None] < s) | (q[:, None] > q))).any(0)

    def strict(s: Any, q: Any) -> Any:
        return ~((s[:, None] < s) & (q[:, None] > q)).any(0)

    def loose(s: Any, q: Any) -> Any:
        return ~((s[:, None] <= s) & (q[:, None] >= q) & ~np.eye(len(s), dtype=bool)).any(0)

    cases = [
        (np.array([1.0, 2, 3, 4, 4]), np.array([0.5, 0.7, 0.6, 0.9, 0.8])),
        (np.array([3.0, 1, 1, 2, 5, 2]), np.array([0.7, 0.4, 0.4, 0.6, 0.7, 0.3])),
        (np.array([0.2, 0.1, 0.3]), np.array([0.5, 0.6, 0.4])),
        (np.array([1.0, 2, 4]), np.array([0.2, 0.9, 0.5])),
    ]
    if (
        draw.cases
    ):  # those above in another order and other units; then of few values, so that some are equal
        rng = np.random.default_rng(draw.seed(0))
        slower, worse = rng.integers(2, 9), rng.integers(2, 8) / 8
        orders = [rng.permutation(len(s)) for s, _ in cases]
        cases = [(s[i] * slower, q[i] * worse) for (s, q), i in zip(cases, orders, strict=True)]
        cases += [(rng.integers(1, 7, n) / 2, rng.integers(1, 7, n) / 8) for n in (6, 8, 10)]
    mistakes = [
        (
            "Reversed",
            lambda s, q: ~front(s, q),
            "true where a method is *not* dominated: that is the reverse.",
        ),
        (
            "Dominated only by who is better in both",
            strict,
            "who is as good and faster, or as fast and better, dominates too: one of the two may be equal.",
        ),
        (
            "Dominated by any that is no worse in both",
            loose,
            "two equal methods do not dominate each other: in one of the two there must be a gain.",
        ),
        (
            "Faster or better is enough",
            lambda s, q: ~(((s[:, None] < s) | (q[:, None] > q)).any(0)),
            "to be faster, or better, is not enough: in the other it must be no worse.",
        ),
        (
            "Seconds the wrong way round",
            lambda s, q: front(s, q, slow=True),
            "fewer seconds are better, not more.",
        ),
        (
            "Quality the wrong way round",
            lambda s, q: front(s, q, bad=True),
            "more quality is better, not less.",
        ),
        (
            "Both the wrong way round",
            lambda s, q: front(s, q, slow=True, bad=True),
            "that is the front of the worst: few seconds and much quality are wanted.",
        ),
        (
            "Numbers of places",
            lambda s, q: np.flatnonzero(front(s, q)),
            "those are numbers: return an array of true and false.",
        ),
        (
            "Only the fastest and the best",
            lambda s, q: (s == s.min()) | (q == q.max()),
            "the fastest and the best are on it, but so is what lies between, if nothing dominates it.",
        ),
        (
            "Only the fastest",
            lambda s, q: s == s.min(),
            "the fastest is on it, and so is all that is better and only a little slower.",
        ),
        (
            "Only the best",
            lambda s, q: q == q.max(),
            "the best is on it, and so is all that is faster and only a little worse.",
        ),
        (
            "Quality over seconds",
            lambda s, q: (q / s) == (q / s).max(),
            "a ratio picks one winner: the front holds every choice that could be right.",
        ),
    ]
    return Exercise(4, front, mistakes, cases)
