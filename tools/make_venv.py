"""Make the virtual environment, also where Debian left `ensurepip` out of its Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(target: str) -> int:
    """Try the standard library first, then virtualenv or uv if one is there, else say what to install."""
    python = Path(target) / "bin" / "python"
    ways = [
        [sys.executable, "-m", "venv", target],
        [sys.executable, "-m", "virtualenv", "-q", target],
        ["uv", "venv", "-q", "--seed", "--python", sys.executable, target],
    ]
    for way in ways:
        try:
            done = subprocess.run(way, capture_output=True, check=False)  # noqa: S603 - a fixed list of commands
        except FileNotFoundError:
            continue
        if done.returncode == 0 and python.exists():
            subprocess.run([str(python), "-m", "pip", "install", "-q", "setuptools>=77", "wheel"], check=True)  # noqa: S603
            return 0
        subprocess.run([sys.executable, "-c", f"import shutil; shutil.rmtree({target!r}, True)"], check=False)  # noqa: S603
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    print(  # noqa: T201 - for the person at the terminal
        f"This Python cannot make virtual environments. On Debian and Ubuntu: apt install python{version}-venv",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
