"""The archive that the registry gets: the files that git has, less what `.comfyignore` leaves out.

    python scripts/archive.py                # what is in it, and how large
    python scripts/archive.py --zip FILE     # as `comfy node pack` writes it
    python scripts/archive.py --unpack DIR   # unpacked into a new folder, to look at and to check

`comfy node publish` packs committed files only; here files that are not committed yet count too.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path

import _environment
from _environment import ROOT
from support.process import pack_files


def main() -> int:
    options = _options()
    _environment.continue_inside(__file__)
    chosen = files()
    if options.zip:
        write(options.zip)
    elif options.unpack:
        if options.unpack.exists():
            print(f"{options.unpack} exists. Give a folder that does not.")
            return 2
        unpack(options.unpack)
    else:
        print(*chosen, sep="\n")
    print(f"{len(chosen)} files, {sum((ROOT / name).stat().st_size for name in chosen) / 1e6:.2f} MB unpacked")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--zip", type=Path, metavar="FILE", help="write the archive")
    form.add_argument("--unpack", type=Path, metavar="DIR", help="write its files")
    return parser.parse_args()


def files(root: Path = ROOT) -> list[str]:
    """Relative paths, sorted; patterns are read as comfy-cli reads them (`zip_files` in its `file_utils.py`)."""
    import pathspec

    ignored = pathspec.GitIgnoreSpec.from_lines((root / ".comfyignore").read_text("utf-8").splitlines())
    return sorted(name for name in pack_files(root) if (root / name).is_file() and not ignored.match_file(name))


def write(archive: Path, root: Path = ROOT) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in files(root):
            packed.write(root / name, name)


def unpack(folder: Path, root: Path = ROOT) -> None:
    """Make `folder` hold what an installation from the registry holds."""
    folder.mkdir(parents=True)
    archive = folder / ".archive.zip"
    write(archive, root)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    archive.unlink()


if __name__ == "__main__":
    sys.exit(main())
