"""Batched least squares."""
