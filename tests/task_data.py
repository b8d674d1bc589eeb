"""Small data and tokenizers for tests of tasks, always the same."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tasks.ruler.templates import NEEDLE, ONE_NEEDLE
from tasks.text import words
from tasks.text.haystack import NOISE

URL = "http://www.example.com/archive/2004/qxzjwvk-7281/index.html?id=9930441&ref=zzyqxw"


def essay_text(num_sentences: int = 900) -> str:
    """Sentences of common words with an abbreviation, a long URL and a number here and there; always the same."""
    rng = random.Random(0)
    adjectives, nouns = words.word_lists()
    vocabulary = ["the", "of", "and", "to", "a", "in", "is", "it", "that", "for"] * 20
    vocabulary += rng.sample(adjectives, 120) + rng.sample(nouns, 200)
    sentences = []
    for number in range(num_sentences):
        body = [rng.choice(vocabulary) for _ in range(rng.randint(4, 25))]
        if number % 40 == 7:
            body.insert(2, URL)
        if number % 25 == 3:
            body.insert(1, "Mr. Smith")
        sentences.append(" ".join(["The", *body]) + ".")
    return " ".join(sentences)


def write_data(folder: Path) -> None:
    """A small data folder in the layouts of the staged files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "essays.json").write_text(json.dumps({"text": essay_text()}))
    questions = [
        {"question": f"What is number {i}?", "id": f"q{i}", "is_impossible": i % 5 == 4}
        | {"answers": [] if i % 5 == 4 else [{"text": f"The {i}th", "answer_start": 0}] * 2}
        for i in range(20)
    ]
    paragraph = {"context": "Numbers have names. The 3th is one.", "qas": questions}
    squad = {"version": "v2.0", "data": [{"title": "Numbers", "paragraphs": [paragraph]}]}
    (folder / "squad.json").write_text(json.dumps(squad))
    lines = [json.dumps({"title": f"T{i:02}", "text": f"Paragraph {i} of  naïve prose."}) for i in range(12)]
    (folder / "wiki_heldout.jsonl").write_text("\n".join(lines) + "\n")


def train_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """`bytes`: byte-level BPE without BOS, as GPT-2. `metaspace`: BPE with BOS in front, as Llama."""
    template = f"{ONE_NEEDLE.prompt}{ONE_NEEDLE.answer_prefix} {NEEDLE} {NOISE} uuid numbers"
    texts = [essay_text(300), template, "0 1 2 3 4 5 6 7 8 9 - a b c d e f"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    alphabet = [chr(code) for code in range(33, 127)]
    if kind == "bytes":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
        tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts * 3, trainer)
    if kind == "metaspace":
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
