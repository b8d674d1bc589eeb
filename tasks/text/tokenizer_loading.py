"""Tokenizers read from a folder: every file looked at first, and one tokenisation, that of tokenizer.json.

transformers chooses a class by config.json and tokenizer_config.json, and some classes build a tokenizer of their own
beside the one that tokenizer.json describes. What a folder's tokenizer.json says is what counts here, so that the same
tokenizer gives the same tokens beside any configuration and under any version of transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from basis.errors import FileError, reason
from basis.files import load_json
from tasks.errors import TaskError

TOKENIZER_JSON = "tokenizer.json"
JSON_FILES = (TOKENIZER_JSON, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")
"""Files that hold one JSON object each, if they are there."""
PROBES = (
    "The grass is green: 0123456789.",
    "  two spaces first, and  two  inside ",
    "In 2023, 4071398 + 12 = 4,071,410; it's O'Neill's, don't",
    "lines\nand\n\n\nlines\r\n\twith a tab\n  and an indent",
    "Straße, naïve café, Ωμέγα, привет, שלום, مرحبا",
    "天地玄黄、日本語のテキスト。한국어",
    "🙂🙃 👩‍👩‍👧 a\u0301 \u00a0\u200b\u2028",
    "http://x.org/a?b=1&c=2 <tag attr='1'> {x: [1, 2]} C:\\dir `code` __init__",
)
"""Texts in which tokenizers differ: spaces, digits, line ends, scripts, characters of several code points."""
_LONGER_THAN_THE_MODEL = "sequence-length-is-longer-than-the-specified-maximum"


def read_tokenizer(folder: Path, name: str) -> Any:
    """Read the tokenizer of a folder; neither the network nor code from the folder takes part.

    Args:
        folder: where its files are.
        name: what messages call it.

    Returns:
        A transformers tokenizer without truncation, padding or chance. `tokenizer_note` says whether transformers
        would have made another one.

    Raises:
        FileError: one of its JSON files cannot be read, is not JSON, or is not what its name says.
        TaskError: no tokenizer, or one that turns every text into unknown tokens.
    """
    for file in JSON_FILES:
        if (folder / file).is_file() and not isinstance(load_json(folder / file), dict):
            raise FileError(f"{folder / file}: holds no JSON object; it is no part of a tokenizer")
    stored = _stored(folder)
    chosen, refusal = _by_transformers(folder)
    if chosen is None and stored is None:
        raise TaskError(f"tokenizer {name}: {refusal}; give a folder with tokenizer.json, or a staged name")
    if stored is not None:
        difference = refusal or _difference(chosen, stored)
        if difference:
            chosen = _of_tokenizer_json(folder, stored)
            chosen.gdn2_note = f"tokenizer.json itself; what transformers chooses for this folder {difference}"
    _check_known(chosen, name)
    return chosen


def tokenizer_note(tokenizer: Any) -> str | None:
    """Say what a record should say of how a tokenizer was loaded; None if there is nothing to say."""
    note = getattr(tokenizer, "gdn2_note", None)
    return None if note is None else str(note)


def files_read(tokenizer: Any) -> tuple[str, ...]:
    """List the names of the files that the class of a tokenizer reads from its folder, those there or not."""
    from transformers import tokenization_utils_base as transformers_names

    constants = [getattr(transformers_names, name) for name in dir(transformers_names) if name.endswith("_FILE")]
    declared = getattr(type(tokenizer), "vocab_files_names", {}).values()
    listed = getattr(tokenizer, "init_kwargs", {}).get("fast_tokenizer_files") or ()
    return tuple(sorted({name for name in (*constants, *declared, *listed) if isinstance(name, str)}))


def _stored(folder: Path) -> Any | None:
    """The tokenizer that tokenizer.json describes, by the library that defines the format."""
    file = folder / TOKENIZER_JSON
    if not file.is_file():
        return None
    from tokenizers import Tokenizer

    try:
        stored = Tokenizer.from_file(str(file))
    except Exception as error:  # the library has no class of its own for it
        raise FileError(f"{file}: describes no tokenizer ({_first_line(error)}); save or download it again") from error
    _reset(stored)
    for text in PROBES:
        try:
            stored.encode(text, add_special_tokens=False)
        except Exception as error:
            raise FileError(f"{file}: cannot encode {text!r} ({_first_line(error)}); give another tokenizer") from error
    return stored


def _by_transformers(folder: Path) -> tuple[Any | None, str]:
    """(the tokenizer that transformers chooses, ""), or (None, why it has none)."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a class makes of files that are not its own
        return None, f"cannot be loaded ({_first_line(error)})"
    _settle(found)
    return found, ""


def _of_tokenizer_json(folder: Path, stored: Any) -> Any:
    """The stored tokenizer with the special tokens of tokenizer_config.json."""
    from transformers import PreTrainedTokenizerFast

    try:
        found = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise TaskError(f"{folder}: the tokenizer cannot be loaded ({_first_line(error)})") from error
    _settle(found)
    if difference := _difference(found, stored):
        raise TaskError(
            f"{folder / TOKENIZER_JSON}: the tokenizer that transformers makes of it {difference}; save it again with "
            "the transformers that is installed here"
        )
    return found


def _difference(tokenizer: Any, stored: Any) -> str:
    """The first probe text in which a tokenizer differs from the stored one, in words; "" if there is none."""
    known = {token.content for token in stored.get_added_tokens_decoder().values()}
    specials = dict.fromkeys(token for token in (tokenizer.bos_token, tokenizer.eos_token) if token in known)
    for text in (*PROBES, *(f"one{token} two {token}\n" for token in specials)):
        try:
            found = list(tokenizer.encode(text, add_special_tokens=False))
        except Exception as error:
            return f"cannot encode {text!r} ({_first_line(error)})"
        expected = list(stored.encode(text, add_special_tokens=False).ids)
        if found != expected:
            return (
                f"encodes {text!r} to {len(found)} tokens, {found[:6]} ..., not to {len(expected)}, {expected[:6]} ..."
            )
    return ""


def _settle(tokenizer: Any) -> None:
    """Nothing is cut, filled up or drawn, and no line about a model's length breaks into ours."""
    if getattr(tokenizer, "is_fast", False):
        _reset(tokenizer.backend_tokenizer)
    warned = getattr(tokenizer, "deprecation_warnings", None)
    if isinstance(warned, dict):
        warned[_LONGER_THAN_THE_MODEL] = True


def _reset(backend: Any) -> None:
    backend.no_truncation()
    backend.no_padding()
    if getattr(backend.model, "dropout", None):
        backend.model.dropout = None  # merges left out by chance, for training


def _check_known(tokenizer: Any, name: str) -> None:
    """Raise TaskError if a tokenizer knows nothing of any probe text."""
    unknown = tokenizer.unk_token_id
    found = {token for text in PROBES for token in tokenizer.encode(text, add_special_tokens=False)}
    if unknown is None and getattr(tokenizer, "is_fast", False):
        token = getattr(tokenizer.backend_tokenizer.model, "unk_token", None)
        unknown = tokenizer.convert_tokens_to_ids(token) if token else None
    if found and found <= {unknown}:
        raise TaskError(
            f"tokenizer {name}: turns every text into its token for unknown text, {tokenizer.decode(unknown)!r}; give "
            "the tokenizer that the model was trained with"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [reason(error)])[0]
