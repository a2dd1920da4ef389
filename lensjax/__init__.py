"""Find rare objects in sky surveys with small neural networks trained on synthetic data."""

__version__ = "0.1.0"
