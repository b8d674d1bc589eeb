"""Chats as text, by the template of a tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

log = logging.getLogger(__name__)


def fill_chat_template(tokenizer: Any, history: Sequence[dict[str, str]], add_generation_prompt: bool) -> str:
    """Write a chat as its tokenizer's template does.

    A template that refuses system messages gets the others, as in lm-eval's HFLM, and a warning says so.

    Args:
        tokenizer: a transformers tokenizer.
        history: messages with their `role` and `content`.
        add_generation_prompt: whether the beginning of an answer comes last; if not, the last message stays open.
    """

    def filled(messages: Sequence[dict[str, str]]) -> str:
        text: str = tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    try:
        return filled(history)
    except TemplateSyntaxError:
        raise
    except TemplateError as error:
        others = [message for message in history if message["role"] != "system"]
        if len(others) == len(history):
            raise
        text = filled(others)
        log.warning("the chat template takes no system message (%s): it is left out", error)
        return text
