"""Whether a twin may be believed: one verdict on a clip, with reasons.

A clip is judged by signs of strangeness, numbers that are larger the stranger it is: of its
picture, of how the heart is shown, of the labels, of the volume curve, and of the twin's agreement
with it. Each sign has a limit, set on clips that are known to be good so that few pass any.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

Kind = Literal["trusted", "doubtful", "refused"]

FALSE_ALARMS = 0.03
"""Fraction of the good clips that passes at least one limit."""
MARGIN = 0.1
"""How far beyond the clips that they were set on the limits are, in distances from the median: the
largest of a few hundred is often passed by others."""
FAR = 2.5
"""A sign this far beyond the median, in distances of its limit, is a reason to refuse."""


class Verdict(NamedTuple):
    """A verdict.

    Attributes:
        kind: Whether to trust a twin: "trusted", "doubtful" or "refused".
        reasons: Why not, the strongest first; empty if trusted.
        signs: Each sign of strangeness, relative to its limit: above 1 is strange.
    """

    kind: Kind
    reasons: tuple[str, ...]
    signs: dict[str, float]


def refuse(reason: str) -> Verdict:
    """Return the verdict on a clip in which nothing could be measured."""
    return Verdict("refused", (reason,), {})


class Screen(eqx.Module):
    """Limits of the signs of strangeness.

    Attributes:
        names: Names of the signs.
        centre: Median of each sign among good clips.
        limit: Largest value of each that is not strange.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    centre: Float[Array | np.ndarray, " sign"]
    limit: Float[Array | np.ndarray, " sign"]

    @classmethod
    def fit(
        cls,
        names: Sequence[str],
        signs: Float[np.ndarray, "clip sign"],
        *,
        false_alarms: float = FALSE_ALARMS,
    ) -> "Screen":
        """Set the limits so that few good clips pass any of them.

        All limits are the same quantile of their sign, the one at which a given fraction of the
        clips passes at least one of them, and then moved outwards by a tenth. A sign that is not a
        number counts as passed.

        Args:
            names: Names of the signs.
            signs: Signs of good clips, of which the network has learnt nothing.
            false_alarms: Fraction of the clips that may pass a limit.

        Raises:
            ValueError: If there are fewer than four clips, or not one name for each sign.
        """
        if len(signs) < 4 or signs.shape[1:] != (len(names),):
            raise ValueError(
                f"signs of shape {signs.shape} with {len(names)} names: expected at least 4 clips "
                "and one column for each name"
            )
        told = np.where(np.isfinite(signs), signs, np.inf)
        # How many of the other clips are less strange, by the sign in which a clip is strangest.
        ranks = np.argsort(np.argsort(told, axis=0, kind="stable"), axis=0) / (len(told) - 1)
        level = float(np.quantile(ranks.max(axis=1), 1 - false_alarms))
        limit = np.array([_quantile(column, level) for column in told.T])
        centre = np.array([np.median(column[np.isfinite(column)]) for column in told.T])
        # A sign that is the same in nearly all clips needs some room, too.
        room = 1e-3 * (1 + np.abs(centre))
        limit = np.maximum(limit + MARGIN * (limit - centre), centre + room)
        return cls(tuple(names), centre, limit)

    @classmethod
    def blank(cls, names: Sequence[str]) -> "Screen":
        """Return zeros in the shapes that `fit` gives, into which a saved one is loaded."""
        return cls(tuple(names), np.zeros(len(names)), np.zeros(len(names)))

    def relative(self, signs: Float[np.ndarray, "*clip sign"]) -> Float[np.ndarray, "*clip sign"]:
        """Return the signs relative to their limits: 0 is usual, above 1 is strange."""
        centre, limit = np.asarray(self.centre), np.asarray(self.limit)
        found = (signs - centre) / (limit - centre)
        return np.where(np.isfinite(found), found, np.inf)

    def judge(self, signs: Float[np.ndarray, " sign"], reasons: Sequence[str]) -> Verdict:
        """Return the verdict on one clip.

        Args:
            signs: The clip's signs.
            reasons: What to say of each sign that passes its limit.
        """
        relative = self.relative(signs)
        strange = [k for k in np.argsort(-relative).tolist() if relative[k] > 1]
        kind: Kind = "trusted" if not strange else "doubtful"
        if strange and relative.max() > FAR:
            kind = "refused"
        told = dict(zip(self.names, (float(x) for x in relative), strict=True))
        because = tuple(str(reasons[k]) for k in strange)
        return Verdict(kind, because, told)


def _quantile(values: Float[np.ndarray, " clip"], level: float) -> float:
    """Return the quantile, ignoring infinite values beyond it."""
    finite = np.sort(values)[: max(int(np.isfinite(values).sum()), 1)]
    place = min(int(np.ceil(level * (len(values) - 1))), len(finite) - 1)
    return float(finite[place])
