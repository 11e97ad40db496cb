"""The coverage that was measured, summed up by package.

    PYTHONPATH=tests python -m support.coverage_report

reads ``.coverage`` of the working directory and prints a line for each package, its direct subpackages apart.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Lines:
    """Lines of code of a package that can run, and those that no test ran."""

    total: int = 0
    missed: int = 0

    def add(self, total: int, missed: int) -> None:
        self.total += total
        self.missed += missed

    def __str__(self) -> str:
        return f"{self.total:>7,} {self.missed:>7,} {1 - self.missed / max(self.total, 1):>7.1%}"


def package_of(path: Path) -> str:
    """Return the package that a module's lines are counted for: `engine.config`, or `engine` for its own modules."""
    return ".".join(path.relative_to(ROOT).parts[:-1][:2])


def by_package(coverage: Coverage) -> dict[str, Lines]:
    """Return the lines of each package that was measured, sorted by name."""
    packages: defaultdict[str, Lines] = defaultdict(Lines)
    for name in sorted(coverage.get_data().measured_files()):
        _, total, _, missed, _ = coverage.analysis2(name)
        packages[package_of(Path(name))].add(len(total), len(missed))
    return dict(sorted(packages.items()))


def main() -> None:
    """Print the table."""
    coverage = Coverage()
    coverage.load()
    packages = by_package(coverage)
    whole = Lines()
    print(f"{'package':<24} {'lines':>7} {'missed':>7} {'covered':>7}")
    for name, lines in packages.items():
        whole.add(lines.total, lines.missed)
        print(f"{name:<24} {lines}")
    print(f"{'all':<24} {whole}")


if __name__ == "__main__":
    main()
