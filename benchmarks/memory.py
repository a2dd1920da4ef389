"""Peak memory of a search over 20,000 spectra, and over twice as many: each in a process of its own."""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import common
import search

LIMIT = 3.0  # GB
SAME = 0.1  # two runs that differ by less than this fraction use the same memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plates", type=int, default=20, help=f"of {search.FIBERS} spectra")
    plates = parser.parse_args().plates
    peaks = []
    for number in (plates, 2 * plates):
        with tempfile.TemporaryDirectory() as folder:
            search.write_plates(pathlib.Path(folder), number)
            command = [sys.executable, search.__file__, "--peak", folder]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(output.splitlines()[-1])
        peaks.append(found["peak"] / 1e9)
        print(f"{number * search.FIBERS:,} spectra: {peaks[-1]:.2f} GB at {found['rate']:,.0f} /s")
    common.claim(f"GB for {2 * plates * search.FIBERS:,} spectra", peaks[1], LIMIT, ".2f", most=True)
    common.claim("ratio to that for half as many", peaks[1] / peaks[0], 1 + SAME, ".2f", most=True)


if __name__ == "__main__":
    main()
