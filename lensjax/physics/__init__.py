"""Wavelength grids, spectral lines and line profiles."""
