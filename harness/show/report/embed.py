"""What cannot leave its place inside a page: data for scripts, and scripts that are named by their hash."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

UNSAFE = re.compile(
    r"[<>&\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff\ud800-\udfff]"
)
"""What could end or open an element, break a line of a script, reorder or hide text, or is no text in UTF-8."""


def to_script_json(value: Any) -> str:
    """Write a value as JSON for `<script type="application/json">`.

    Args:
        value: of dictionaries, lists, texts and finite numbers.

    Returns:
        JSON in one line, in which no character has a meaning for HTML; reading it gives the value back exactly.

    Raises:
        ValueError: a number that is not finite, which JSON has no word for.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def policy(styles: str, scripts: str) -> str:
    """The Content-Security-Policy of a page: nothing is fetched, and only these two inline texts count.

    Args:
        styles: the text of the page's one `<style>`.
        scripts: the text of the page's one `<script>` that is run.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_source(styles)}'",
            f"script-src '{_source(scripts)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
