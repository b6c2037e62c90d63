"""Compiles the translations into what Django reads, whenever the package is built."""

from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithTranslations(build_py):
    """`build_py` that leaves a `.mo` beside each `.po`."""

    def run(self):
        """Copies the package, then compiles the copies' catalogs."""
        super().run()
        for source in Path(self.build_lib).glob("vncgate_dashboard/locale/*/LC_MESSAGES/*.po"):
            with source.open("rb") as po, source.with_suffix(".mo").open("wb") as mo:
                write_mo(mo, read_po(po))


setup(cmdclass={"build_py": BuildWithTranslations})
