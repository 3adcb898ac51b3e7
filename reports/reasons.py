"""Why a result was judged wrong: the closed list of reasons that records and divergences name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Reason = Literal[
    "beyond-bound", "not-equal", "not-finite", "wrong-shape", "wrong-dtype", "wrong-count",
    "raised", "died", "hung", "broke-contract", "not-refused",
    "long-half-sums", "short-factors", "mean-of-equal-values",
    "relation-broken", "mass-not-conserved", "gradient-at-ties", "gradient-of-one-value",
    "nan-not-consistent", "subnormals-not-consistent", "gradient-at-nan", "modes-disagree",
    "not-consistent", "declined-dtype-answered", "operand-changed", "improbable",
]  # fmt: skip

MEANINGS: Mapping[Reason, str] = {
    "beyond-bound": "a sum lies outside its proven bound",
    "not-equal": "a value that has one right answer has another",
    "not-finite": "a NaN or an infinity is where a number must be, or the other way round",
    "wrong-shape": "a shape is not that of the formula",
    "wrong-dtype": "a dtype is not that of the input",
    "wrong-count": "the framework counts another number of parameters",
    "raised": "a call that must be taken raises",
    "died": "the process ended",
    "hung": "no answer came within the time limit",
    "broke-contract": "the adapter returned what its interface rules out",
    "not-refused": "what has no meaning is taken, or given a static shape",
    "long-half-sums": "only a sum in half precision, past the terms that it can count, explains it",
    "short-factors": "only factors that were rounded to fewer bits explain it",
    "mean-of-equal-values": "the mean of equal values is not that value",
    "relation-broken": "two answers, or an answer and its input, are not related as they must be",
    "mass-not-conserved": "the gradient for the input does not sum to the upstream gradient",
    "gradient-at-ties": "at equal values the gradient is no sharing among the largest cells",
    "gradient-of-one-value": "the gradient of a map of one value cannot be right",
    "nan-not-consistent": "a NaN is treated in one way here and in another there",
    "subnormals-not-consistent": "subnormal numbers are kept here and flushed there",
    "gradient-at-nan": "the gradient of windows with a NaN goes to one cell here, another there",
    "modes-disagree": "a mode, or a device, makes another choice than the framework by default",
    "not-consistent": "another choice that must be the same everywhere is not",
    "declined-dtype-answered": "a dtype that the adapter declines is answered, and wrongly",
    "operand-changed": "a call wrote to its operands, or a later one to an earlier result",
    "improbable": "a correct backend would draw so with a negligible probability",
}
"""What each reason says."""

USUAL: Mapping[str, Reason] = {
    "value": "beyond-bound",
    "not-finite": "not-finite",
    "shape": "wrong-shape",
    "dtype": "wrong-dtype",
    "count": "wrong-count",
    "exception": "raised",
    "crash": "died",
    "hang": "hung",
    "adapter": "broke-contract",
    "not-refused": "not-refused",
    "precision": "long-half-sums",
    "law": "relation-broken",
    "trait": "not-consistent",
    "state": "operand-changed",
    "statistics": "improbable",
}
"""The reason of a failure of an effect, where no other is given."""
