"""Backends whose verdicts are known beforehand: honest, correct but different, faulty, hostile."""
