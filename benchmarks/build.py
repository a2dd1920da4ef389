"""Making mock spectra and writing them as the published data set, start of Python to finished folder."""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import common

CHILD = """
import sys
from lensjax.core.compile import enable_cache
enable_cache()
from datasets.lya_spectra import lya_spectra_dataset_builder as lya_spectra
from datasets.prepare import prepare
test = int(sys.argv[1]) // 10
config = lya_spectra.LyaConfig(name="benchmark", num_train=int(sys.argv[1]) - test, num_test=test)
prepare(lya_spectra.Builder(config=config, data_dir=sys.argv[2]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=150_000, help="spectra")
    num = parser.parse_args().num
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": common.search_path()}
        subprocess.run([sys.executable, "-c", CHILD, str(num), folder], check=True, env=environment)
        seconds = time.perf_counter() - start
        written = sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())
    print(f"{num:,} spectra, {written / 1e9:.2f} GB, in {seconds:.1f} s: {num / seconds:,.0f} /s")
    common.claim("seconds for 150,000 spectra at this rate", seconds * 150_000 / num, 60, ".1f", most=True)


if __name__ == "__main__":
    main()
