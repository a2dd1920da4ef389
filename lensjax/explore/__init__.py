"""The local web app of a finished workdir: look at cutouts, search by similarity, grade, export."""
