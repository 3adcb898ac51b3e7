"""Every faulty backend, named as ``tests/corpus/faulty.py:Class``, and the registry of faults."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpus import (
    faults_combined,
    faults_counts,
    faults_gradients,
    faults_history,
    faults_kernels,
    faults_memory,
    faults_networks,
    faults_overlooked,
    faults_pool,
    faults_precision,
    faults_precision_gradients,
    faults_refusals,
    faults_sizes,
    faults_slipped,
    faults_special,
    faults_stochastic,
    faults_thresholds,
    faults_values,
    faults_weights,
)
from corpus.fault import Fault

_PARTS = (
    faults_pool,
    faults_weights,
    faults_values,
    faults_sizes,
    faults_memory,
    faults_refusals,
    faults_stochastic,
    faults_counts,
    faults_gradients,
    faults_combined,
    faults_networks,
    faults_kernels,
    faults_history,
    faults_precision,
    faults_precision_gradients,
    faults_slipped,
    faults_special,
    faults_thresholds,
    faults_overlooked,
)

FAULTS: dict[str, Fault] = {key: fault for part in _PARTS for key, fault in part.FAULTS.items()}
"""Every fault by its id."""

globals().update({fault.make().__name__: fault.make() for fault in FAULTS.values()})
