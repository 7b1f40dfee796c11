"""The decoder for pairs of neighbours alone, as it was before pairs further apart were scored: states by hand, and
explicit loops. The general decoder must agree with it when only neighbours are given."""

import numpy as np

from cb_runtime.contract import REVERSED_LABEL

SAME, DIFFERENT, EMPTY_EMPTY, EMPTY_VALID, VALID_EMPTY = range(5)


def captions_and_scores(forward, backward, min_frames, change_penalty):
    """Return `[start, end)` in frames of each caption and the product of its boundaries' probabilities."""
    logs = [np.log(np.maximum(values.astype(np.float64), 1e-5)) for values in (forward, backward[:, REVERSED_LABEL])]
    evidence = sum(logs) / 2
    evidence[:, DIFFERENT] -= change_penalty
    states, labels = _best(evidence, _steps(min_frames), min_frames)
    starts = ([0] if states[0] else []) + [i + 1 for i, x in enumerate(labels) if x in (EMPTY_VALID, DIFFERENT)]
    ends = [i + 1 for i, x in enumerate(labels) if x in (VALID_EMPTY, DIFFERENT)]
    ends += [len(states)] if states[-1] else []
    of_label, shown = _posteriors(evidence, _steps(min_frames), min_frames)
    found = []
    for start, end in zip(starts, ends, strict=True):
        begins = of_label[start - 1, [EMPTY_VALID, DIFFERENT]].sum() if start else shown[0]
        finishes = of_label[end - 1, [VALID_EMPTY, DIFFERENT]].sum() if end < len(states) else shown[1]
        found.append((start, end, begins * finishes))
    return found


def _steps(last):
    return [
        (0, 0, EMPTY_EMPTY),
        (0, 1, EMPTY_VALID),
        (last, 0, VALID_EMPTY),
        (last, 1, DIFFERENT),
        (last, last, SAME),
        *((state, state + 1, SAME) for state in range(1, last)),
    ]


def _start(last):
    start = np.full(last + 1, -np.inf)
    start[[0, last]] = 0
    return start


def _best(evidence, steps, last):
    score, choices = _start(last), []
    for logs in evidence:
        best = dict.fromkeys(range(last + 1), (-np.inf, 0, 0))
        for source, target, label in steps:
            candidate = (score[source] + logs[label], source, label)
            best[target] = max(best[target], candidate, key=lambda choice: choice[0])
        choices.append(best)
        score = np.array([best[state][0] for state in range(last + 1)])
    states, labels = [int(score.argmax())], []
    for best in reversed(choices):
        _, source, label = best[states[0]]
        states.insert(0, source)
        labels.insert(0, label)
    return states, labels


def _posteriors(evidence, steps, last):
    count = len(evidence)
    alpha, beta = np.full((count + 1, last + 1), -np.inf), np.full((count + 1, last + 1), -np.inf)
    alpha[0], beta[count] = _start(last), 0
    for at in range(count):
        for source, target, label in steps:
            alpha[at + 1, target] = np.logaddexp(alpha[at + 1, target], alpha[at, source] + evidence[at, label])
    for at in range(count - 1, -1, -1):
        for source, target, label in steps:
            beta[at, source] = np.logaddexp(beta[at, source], beta[at + 1, target] + evidence[at, label])
    total = np.logaddexp.reduce(alpha[count])
    of_label = np.zeros((count, 5))
    for at in range(count):
        for source, target, label in steps:
            of_label[at, label] += np.exp(alpha[at, source] + evidence[at, label] + beta[at + 1, target] - total)
    return of_label, (1 - np.exp(alpha[0, 0] + beta[0, 0] - total), 1 - np.exp(alpha[count, 0] - total))
