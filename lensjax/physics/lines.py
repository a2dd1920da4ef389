"""Spectral lines: vacuum wavelengths in Angstrom, and the lists that searches mask.

Rest wavelengths: NIST Atomic Spectra Database and Morton (2003, ApJS 149, 205), as tabulated in vacuum by SDSS.
Empirical lists: Bolton et al. (2012) and Shu et al. (2016, ApJ 824, 86), whose search masks them.
"""

LYA = 1215.670
OII_DOUBLET = (3727.092, 3729.875)
OII = 3728.48  # flux-weighted mean of the doublet
HGAMMA = 4341.684
HBETA = 4862.683
OIII = (4960.295, 5008.239)
HALPHA = 6564.614

# Absorption lines of gas in front of quasars, and their oscillator strengths (Morton 2003, ApJS 149, 205).
MGII, MGII_STRENGTH = (2796.352, 2803.531), (0.6155, 0.3058)
FEII, FEII_STRENGTH = (2344.214, 2374.461, 2382.765, 2586.650, 2600.173), (0.114, 0.0313, 0.320, 0.0691, 0.239)
MGI = 2852.964
CIV, CIV_STRENGTH = (1548.195, 1550.770), (0.1899, 0.0948)
ALIII, ALIII_STRENGTH = (1854.716, 1862.790), (0.559, 0.278)

# Lines of the lens galaxy that Li et al. (2018), section 3.3, mask: [NeV] 3347, 3427, [OII] 3727, [NeIII] 3869.
LENS_LINES = (3346.8, 3426.8, OII, 3869.9)

# Emission lines of the foreground galaxy masked before the matched filter; those that reach 3600-5000 A at z > 0.
LENS_EMISSION = (
    *OII_DOUBLET,
    3869.9,
    4102.892,
    4341.684,
    HBETA,
    *OIII,
    6549.86,
    HALPHA,
    6585.27,
    6718.29,
    6732.68,
)

# Rest-frame features that eigenspectra under-subtract (Shu et al. 2016): mostly Fe II, Mg II, [NeV], Ca II.
EMPIRICAL_REST = (
    2424.0,
    2776.7,
    2789.1,
    2797.3,
    2804.2,
    2812.8,
    3346.8,
    3426.7,
    3869.7,
    3889.6,
    3934.9,
    3970.0,
)

# Strong absorption lines of stars: Balmer, H9 to H beta; metals, Ca II K and H, Ca I, the G band.
STELLAR_BALMER = (3836.5, 3890.2, 3971.2, 4102.9, 4341.7, HBETA)
STELLAR_METALS = (3934.8, 3969.6, 4227.9, 4305.0)

# Observed-frame sky features that give spurious lines in BOSS (Shu et al. 2016).
SKY_LINES = (3728.6, 4038.6, 4046.6, 4346.3, 4352.6, 4359.6)

# Airglow and city-light lines of 3600-5000 A with their strength relative to the strongest, Hg I 4359
# (measured above the local continuum of the mean BOSS sky).
AIRGLOW = {
    4359.6: 1.0,
    4047.6: 0.45,
    3909.3: 0.30,
    4982.0: 0.28,
    3831.8: 0.25,
    4165.8: 0.22,
    4248.0: 0.20,
    4744.6: 0.18,
    4078.5: 0.16,
    4315.0: 0.14,
    4321.0: 0.12,
}

# Night-sky lines redward of 5000 A whose residuals pass for emission: [OI], Na D (Osterbrock et al. 1996, PASP 108,
# 277).
NIGHT_SKY = (5578.9, 5891.6, 5897.6, 6302.0, 6365.5)

# Emission of the Galaxy and of aurorae in every sky, at rest, 3600-5000 A: warm ionised gas in [OII], H I and [OIII]
# (Reynolds et al. 1998, ApJ 494, L99; Brandt & Draine 2012, ApJ 744, 129); N2+ and [NI] of the upper atmosphere
# (Chamberlain 1961, Physics of the Aurora and Airglow).
GALACTIC = (*OII_DOUBLET, 3971.2, 4102.9, 4341.7, HBETA, OIII[0])
AURORAL = (3915.5, 4279.0, 4710.4)
