"""Spectra in, scored and vetted objects out."""
