"""The rule by which a challenger becomes champion."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from retune.metrics import Metric


@dataclass(frozen=True)
class Decision:
    """Whether the alias `champion` moves, and why.

    Attributes:
        promote: The challenger is to become champion.
        reason: One sentence for people.
        challenger: Its version in the registry.
        champion: The version the alias named before; None where there was none.
    """

    promote: bool
    reason: str
    challenger: str
    champion: str | None

    def as_dict(self) -> dict[str, object]:
        """Return the decision as plain data."""
        return asdict(self)


def decide(
    metric: Metric,
    minimum_gain: float,
    challenger: tuple[str, float],
    champion: tuple[str, float] | None,
    unusable: str | None = None,
) -> Decision:
    """Compare two models scored on the same test rows.

    Args:
        metric: The search metric.
        minimum_gain: The challenger must be better by at least this, in the metric's units, and must not be worse.
        challenger: Its registered version and its value of the metric; a value that is not finite never wins.
        champion: The same of the champion; None where there is none. A value that is not finite loses to any that is.
        unusable: Why the champion of `champion[0]` cannot score today's rows; its value is not looked at then.
    """
    version, value = challenger
    name = f"test {metric.name}"
    if not math.isfinite(value):
        return Decision(False, f"the challenger's {name} is {value}", version, champion and champion[0])
    if champion is None:
        return Decision(True, f"there was no champion yet; {name} {value:.6g}", version, None)
    if champion[0] == version:
        return Decision(False, f"version {version} is the champion already", version, version)
    if unusable:
        return Decision(
            True, f"champion version {champion[0]} cannot score today's rows: {unusable}", version, champion[0]
        )
    if not math.isfinite(champion[1]):
        reason = f"the {name} of champion version {champion[0]} is {champion[1]}; {value:.6g} is better"
        return Decision(True, reason, version, champion[0])
    gain = metric.gain(value, over=champion[1])
    compared = f"{name} {value:.6g} against the champion's {champion[1]:.6g} (version {champion[0]}): gain {gain:.6g}"
    # With a minimum of 0 an equal challenger stays out: a change of model needs a reason.
    enough = gain >= minimum_gain and gain > 0
    verdict = "reaches" if enough else "does not reach" if minimum_gain > 0 else "is not above"
    if enough and minimum_gain == 0:
        verdict = "is above"
    return Decision(enough, f"{compared} {verdict} the minimum of {minimum_gain:g}", version, champion[0])
