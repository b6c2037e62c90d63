"""The words of the panels, and their translations."""

import re
from pathlib import Path
from unittest import TestCase

from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import vncgate_dashboard

HOME = Path(vncgate_dashboard.__file__).parent
LANGUAGES = ("zh_Hans",)


def words():
    """What the panels have translated, in code and in templates."""
    found = extract_from_dir(HOME, method_map=[("**.py", "python")])
    code = {message for _, _, message, _, _ in found}
    templates = HOME.glob("templates/**/*.html")
    return code.union(*(re.findall(r'{% trans "([^"]*)" %}', page.read_text()) for page in templates))


class TranslationTests(TestCase):
    def test_each_language_has_all_words_and_no_others(self):
        self.assertEqual(
            sorted(path.name for path in (HOME / "locale").iterdir()),
            sorted(LANGUAGES),
        )
        for language in LANGUAGES:
            with (HOME / "locale" / language / "LC_MESSAGES/django.po").open("rb") as source:
                translated = {message.id for message in read_po(source) if message.id and message.string}
            self.assertEqual(translated, words(), language)
            self.assertGreater(len(translated), 15)
