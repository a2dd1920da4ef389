"""The block config.sim of the imaging systems: mock cutouts of lenses and of what looks like them, sims/lenses.py."""

from ml_collections import config_dict

from configs.views import views


def lenses() -> config_dict.ConfigDict:
    """Laws of the mock cutouts. Magnitudes are AB, lengths arcsec, colours g-r and r-z; a pair is a range."""
    sim = config_dict.ConfigDict()
    sim.lens_fraction = 0.5
    sim.kinds = (0.3, 0.07, 0.17, 0.1, 0.12, 0.17, 0.07)  # of the rest: red, ring, spiral, merger, edge-on, blend, star
    sim.supersample = 2  # samples of a pixel along each axis
    sim.margin = 6  # pixels around the image, so that nothing blurs around
    sim.psf_shape = "moffat3.5"  # or "moffat2.5", "moffat4.5", "gaussian"
    sim.psf, sim.noise, sim.ebv = views().psf, views().noise, views().ebv  # lognormals of Stein et al. (2022), Table 2
    sim.sky = (22.04, 20.91, 18.46)  # mag per square arcsec: the photon noise of bright objects follows from it
    sim.sky_error = 0.02  # of the noise: what is left of the sky's level
    sim.offset = 0.13  # of the centre from that of the image, each way

    sim.deflector = deflectors()
    sim.source = sources()
    sim.lookalike = lookalikes()
    sim.field = surroundings()
    return sim


def fetching() -> config_dict.ConfigDict:
    """The block config.fetch_cutouts: cutouts to download, surveys/fetch_cutouts.py."""
    fetch = config_dict.ConfigDict()
    fetch.list = ""  # text file or table of positions, ra and dec in degrees
    fetch.url = "https://www.legacysurvey.org/viewer/fits-cutout"
    fetch.layer = "ls-dr9"
    fetch.bands = "grz"
    fetch.size = 152  # pixels
    fetch.pixel = 0.262  # arcsec
    fetch.workers = 2  # downloads at a time
    fetch.pause = 0.3  # seconds between two requests
    fetch.retries = 5
    fetch.backoff = 2.0  # seconds before the first retry; doubles each time
    fetch.timeout = 60.0  # seconds without a byte
    return fetch


def deflectors() -> config_dict.ConfigDict:
    """Red galaxies, with and without an arc."""
    deflector = config_dict.ConfigDict()
    deflector.redshift = (0.15, 0.85)  # normal, cut here
    deflector.redshift_mean, deflector.redshift_scatter = 0.55, 0.16
    # Red sequence, a table in the redshift: colours, and z magnitude of a galaxy as bright as lenses are.
    deflector.sequence_redshift = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85)
    deflector.sequence_gr = (0.95, 1.22, 1.5, 1.72, 1.82, 1.85, 1.85, 1.8)
    deflector.sequence_rz = (0.55, 0.65, 0.75, 0.85, 1.02, 1.2, 1.42, 1.7)
    deflector.sequence_z = (16.0, 17.1, 17.7, 18.2, 18.6, 18.95, 19.25, 19.5)
    deflector.mag_scatter = 0.45
    deflector.mag = (16.8, 19.8)  # z
    deflector.colour_scatter = 0.06
    deflector.re = 0.78  # median effective radius at `re_mag`, scaled by 10^(-0.2 (mag - re_mag))
    deflector.re_mag, deflector.re_scatter = 18.6, 0.4
    deflector.n = (2.5, 5.0)
    deflector.axis_ratio = (0.5, 1.0)
    deflector.theta_e = (1.1, 5.5)
    deflector.theta_e_median, deflector.theta_e_scatter = 2.2, 0.38  # lognormal; half as steep in flux as the radius
    deflector.mass_light = (0.15, 0.1)  # scatter of the mass's axis ratio and angle (radian) about the light's
    deflector.shear = 0.05  # Rayleigh parameter
    return deflector


def sources() -> config_dict.ConfigDict:
    """Lensed galaxies."""
    source = config_dict.ConfigDict()
    source.mag = (23.0, 26.0)  # r, before magnification
    # Colours of arcs whose deflector's light is taken away; with it, arcs measure g-r 1.15, r-z 0.85.
    source.gr, source.rz = (0.45, 0.25), (0.5, 0.3)  # mean and scatter
    source.re = (0.15, 0.5)
    source.n = (0.5, 2.0)
    source.axis_ratio = (0.3, 1.0)
    source.clumps = 0.5  # largest share of the light in two clumps
    source.clump_radius = (0.05, 0.12)
    source.impact = (0.1, 0.4)  # of theta_e; every place in the source plane is as likely
    source.min_snr = (30.0, 130.0)  # of an arc that somebody found, in its best band: fainter sources are brightened
    return source


def lookalikes() -> config_dict.ConfigDict:
    """Spirals, rings, mergers, edge-on discs, blends, stars."""
    look = config_dict.ConfigDict()
    look.mag, look.slope = (16.8, 19.9), 0.3  # z; dex per magnitude
    look.disc_gr, look.bulge_gr = (0.55, 0.2), (1.05, 0.25)
    look.bulge, look.ring_bulge = (0.1, 0.5), 0.25  # share of the light in z, and of rings so much more
    look.bulge_re, look.bulge_n = 0.3, (1.0, 3.0)  # of the effective radius; index
    look.re = (0.8, 3.2)  # of discs
    look.axis_ratio = (0.45, 1.0)
    look.pitch = (0.2, 0.55)  # radian
    look.arms, look.two_arms = (0.8, 3.5), 0.75  # concentration of the arms in phase; share with two, not four
    look.clumps, look.clump_radius = 0.3, 0.12  # largest share of the light in two clumps; of the effective radius
    look.ring = (1.6, 4.5)  # radius
    look.ring_width = (0.15, 0.3)  # of the radius
    look.edge_ratio, look.edge_bulge_ratio = (0.08, 0.25), (0.5, 0.8)
    look.tail, look.tail_ratio = (0.1, 0.45), (0.12, 0.5)  # share of a merger's light; axis ratio
    look.tail_offset, look.bend = 0.5, (0.1, 0.35)  # of the effective radius; curvature per arcsec
    look.nucleus_re = 0.6  # of the effective radius, and arcsec of the other nucleus
    look.companion = (0.9, 3.5)  # distance of a merger's other half, and of a blend's blue galaxies
    look.companion_mag, look.companion_re = (20.3, 23.5), (0.2, 0.6)  # r, of a blend's
    look.star_mag = (15.5, 19.5)  # z
    return look


def surroundings() -> config_dict.ConfigDict:
    """What else is in the field: galaxies, members of the red galaxy's group, stars."""
    field = config_dict.ConfigDict()
    field.galaxies, field.members, field.stars = 12, 8, 3  # places for them
    field.galaxy_rate, field.star_rate = 0.7, 0.22  # share of the places that are taken
    field.group_rate = 0.7  # of the red galaxies are in a group; a random share of the places is taken then
    field.mag = (20.0, 25.0)  # r
    field.slope = 0.33  # dex per magnitude
    field.gr = (0.75, 0.4)
    field.rz = (0.1, 0.55, 0.12)  # of all blue galaxies: at g-r 0, change with g-r, scatter
    field.re, field.re_mag, field.re_scatter = 0.4, 23.0, 0.35  # scaled by 10^(-0.1 (mag - re_mag))
    field.axis_ratio = (0.3, 1.0)
    field.member_mag = (0.6, 4.8)  # fainter than the central galaxy
    field.group_radius, field.member_distance = 5.0, 1.2  # Rayleigh parameter; least distance
    field.member_re, field.member_n, field.member_slope = (0.15, 1.2), 3.0, 0.03  # tilt of the red sequence in g-r
    field.star_mag, field.star_slope = (17.0, 22.5), 0.15  # r; dex per magnitude
    # Colours along the stellar locus, by rank: turn-off stars are the most; M dwarfs redden in r-z alone.
    field.star_rank = (0.0, 0.3, 0.55, 0.7, 0.85, 1.0)
    field.star_gr, field.star_rz = (0.2, 0.42, 0.6, 1.2, 1.45, 1.5), (0.0, 0.15, 0.27, 0.6, 1.1, 2.2)
    field.star_scatter = 0.04
    field.stamp, field.member_stamp = 18, 32  # pixels of the stamps they are drawn on
    return field
