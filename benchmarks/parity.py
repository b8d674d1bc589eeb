"""Our lm-eval model beside lm-eval's HFLM on a real checkpoint, request by request, and beside transformers' generate.

    python run_eval.py stage smollm2-135m && python run_eval.py stage --suite commonsense-offline
    python benchmarks/parity.py [CHECKPOINT] [--documents 30] [--texts 10] [--whole] --output parity.json

Nine commonsense tasks: the prompts are ours and those of lm-eval's own task over the same rows; the token ids are what
either model is about to read; the log-likelihoods are ours at the batch size that memory allows, as `run` has it, and
HFLM's at batch size 1 over transformers' model, which reads the source itself (a GGUF file by its own loader). Both
take the tokenizer of our import. Then greedy texts of a needle task and of two retrieval tasks, all tokens up to the
task's limit, against `model.generate`. The JSON has a line for each document and choice, with texts and ids as SHA-256
unless `--whole`. Float32 on the CPU.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import command_line
import lm_eval.tasks
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import postprocess_generated_text
from lm_eval.tasks._yaml_loader import load_yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from gdn2.checkpoints import fingerprint
from gdn2.checkpoints.importers import is_native
from harness.checkpoints.find import find_checkpoint
from harness.checkpoints.imports import cached_import
from harness.lm.evaluate import load_task, quiet_lm_eval
from harness.lm.model import GDN2LM
from harness.records.machine import describe
from tasks import data
from tasks.errors import TaskError
from tasks.registry import resolve

UPSTREAM = Path(lm_eval.tasks.__file__).parent
COMMONSENSE = {
    "piqa": "piqa/piqa.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "social_iqa": "siqa/siqa.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "olmo_lambada": "lambada/lambada_openai.yaml",
}
"""Our tasks, and lm-eval's file of each; LAMBADA's rows are not lambada_openai's, its templates are."""
GENERATED = ("niah_single_2@1024", "squad_retrieval", "jrt_hotpotqa@512")
MAX_LENGTH = 4096
Line = dict[str, Any]


class _Recorded:
    """A model that keeps the token ids of the log-likelihoods that it is asked for."""

    asked: Sequence[tuple[Any, list[int], list[int]]] = ()

    def _loglikelihood_tokens(self, requests: list[Any], **options: Any) -> list[tuple[float, bool]]:
        self.asked = list(requests)
        scores: list[tuple[float, bool]] = super()._loglikelihood_tokens(requests, **options)  # type: ignore[misc]
        return scores


class Ours(_Recorded, GDN2LM):
    """Our lm-eval model; it keeps what it was asked."""


class Theirs(_Recorded, HFLM):  # type: ignore[misc]  # lm-eval has no types
    """lm-eval's; it keeps what it was asked."""


def models(checkpoint: str) -> tuple[Ours, Theirs]:
    """A foreign checkpoint as either reads it."""
    source = find_checkpoint(checkpoint)
    folder = source if is_native(source) else cached_import(source, None).folder
    where = (source.parent, {"gguf_file": source.name}) if source.is_file() else (source, {})
    reference = AutoModelForCausalLM.from_pretrained(where[0], dtype=torch.float32, **where[1]).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    theirs = Theirs(pretrained=reference, tokenizer=tokenizer, batch_size=1, max_length=MAX_LENGTH, device="cpu")
    return Ours(str(folder), device="cpu", dtype="float32", max_length=MAX_LENGTH), theirs


def own_requests(name: str, documents: int) -> list[Instance]:
    """What our task asks of so many documents, chosen by its seed."""
    documents = min(documents, len(data.rows(name_of_file(name))))
    return built(load_task(resolve(name, samples=documents).config, {}))


def upstream_requests(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Instance]:
    """What lm-eval's own task asks of these rows."""
    import datasets

    config = load_yaml(UPSTREAM / COMMONSENSE[name], resolve_func=True)
    split = config.get("test_split") or config["validation_split"]
    with tempfile.TemporaryDirectory(prefix="gdn2-parity-") as folder:
        file = Path(folder) / "rows.parquet"
        datasets.Dataset.from_list([dict(row) for row in rows]).to_parquet(file)
        config |= {"dataset_path": "parquet", "dataset_name": None}
        config |= {"dataset_kwargs": {"data_files": {split: str(file)}, "cache_dir": folder}}
        config |= {"training_split": None, "num_fewshot": 0}
        config |= {other: None for other in ("test_split", "validation_split") if config.get(other) != split}
        config.pop("tag", None)
        return built(ConfigurableTask(config=config))


def built(task: Any) -> list[Instance]:
    """The requests of a task, in the order of documents and choices."""
    task.build_all_requests(limit=None, rank=0, world_size=1)
    return list(task.instances)


def compare_scores(name: str, documents: int, ours: Ours, theirs: Theirs, *, whole: bool = False) -> list[Line]:
    """A line for each document and choice of a task: whether prompts and ids are equal, and both log-likelihoods."""
    mine = own_requests(name, documents)
    rows = [data.rows(name_of_file(name))[place] for place in dict.fromkeys(request.doc["row"] for request in mine)]
    other = upstream_requests(name, rows)
    if len(mine) != len(other):
        raise TaskError(f"{name}: {len(mine)} requests of ours, {len(other)} of lm-eval's own task")
    found, expected = (
        model.loglikelihood(asked, disable_tqdm=True) for model, asked in ((ours, mine), (theirs, other))
    )
    shown: Callable[[Any], Any] = (lambda value: value) if whole else digest
    lines = []
    for i, (request, twin) in enumerate(zip(mine, other, strict=True)):
        ids, their_ids = ([list(part) for part in model.asked[i][1:]] for model in (ours, theirs))
        lines.append(
            {
                "task": name,
                "row": request.doc["row"],
                "choice": request.idx,
                "prompt": shown(list(request.args)),
                "prompt_equal": tuple(request.args) == tuple(twin.args),
                "ids": shown(ids),
                "tokens": [len(part) for part in ids],
                "ids_equal": ids == their_ids,
                "ours": found[i][0],
                "hflm": expected[i][0],
                "difference": abs(found[i][0] - expected[i][0]),
                "greedy_equal": found[i][1] == expected[i][1],
            }
        )
    return lines


def compare_texts(name: str, documents: int, ours: Ours, theirs: Theirs, *, whole: bool = False) -> list[Line]:
    """A line for each document of a task that generates: our text and that of transformers' greedy `generate`."""
    metadata = {"tokenizer": str(ours.tokenizer_path), "context_prefix": "tokenizer"}
    asked = built(load_task(resolve(name, samples=documents).config, metadata))
    found = ours.generate_until(asked)
    lines = []
    for request, text in zip(asked, found, strict=True):
        prompt, settings = request.args
        expected, tokens = generated(theirs, prompt, settings)
        shown = (lambda value: value) if whole else digest
        lines.append(
            {
                "task": name,
                "index": request.doc["index"],
                "prompt": shown(prompt),
                "tokens": tokens,
                "ours": shown(text),
                "generate": shown(expected),
                "text_equal": text == expected,
            }
        )
    return lines


def generated(theirs: Theirs, prompt: str, settings: Mapping[str, Any]) -> tuple[str, list[int]]:
    """The greedy text of transformers' `generate`, cut at the task's stops, and the tokens of prompt and text."""
    tokenizer = theirs.tokenizer
    ids = torch.tensor([tokenizer.encode(prompt)])
    with torch.no_grad():
        written = theirs.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=settings["max_gen_toks"],
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )[0, ids.shape[1] :]
    stops = [*settings["until"], tokenizer.eos_token]
    text = tokenizer.decode(written, skip_special_tokens=True)
    return postprocess_generated_text(text, stops, None), [ids.shape[1], len(written)]


def summary(scores: Sequence[Line], texts: Sequence[Line]) -> Line:
    """Counts and differences, for each task and of all."""

    def of(lines: Sequence[Line]) -> Line:
        differences = [line["difference"] for line in lines]
        return {
            "documents": len({line["row"] for line in lines}),
            "requests": len(lines),
            "prompts_equal": sum(line["prompt_equal"] for line in lines),
            "token_ids_equal": sum(line["ids_equal"] for line in lines),
            "greedy_equal": sum(line["greedy_equal"] for line in lines),
            "max_difference": max(differences),
            "median_difference": statistics.median(differences),
        }

    by_task = {name: [line for line in scores if line["task"] == name] for name in _names(scores)}
    written = {name: [line for line in texts if line["task"] == name] for name in _names(texts)}
    everything = {**of(scores), "documents": sum(of(lines)["documents"] for lines in by_task.values())}
    return {
        "scores": {**{name: of(lines) for name, lines in by_task.items()}, "all": everything},
        "texts": {
            name: {"texts": len(lines), "texts_equal": sum(line["text_equal"] for line in lines)}
            for name, lines in written.items()
        },
    }


def as_rows(found: Line) -> list[str]:
    """The scores of a summary as rows of a table in Markdown."""
    rows = []
    for name, one in found["scores"].items():
        counts = [f"{one[field]:,}" for field in ("documents", "requests", "prompts_equal", "token_ids_equal")]
        differences = [f"{one[field]:.1e}" for field in ("max_difference", "median_difference")]
        rows.append(f"| {' | '.join([name, *counts, *differences])} |")
    return rows


def as_json(found: Mapping[str, Any]) -> str:
    """A field a line; of the lists an entry a line."""
    fields = [
        f'"{name}": ' + (_listed(value) if isinstance(value, list) else json.dumps(value))
        for name, value in found.items()
    ]
    return "{\n" + ",\n".join(fields) + "\n}\n"


def digest(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()[:16]


def name_of_file(name: str) -> str:
    """The staged rows of a task."""
    return resolve(name).data[0]


def _listed(lines: Sequence[Line]) -> str:
    return "[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]"


def _names(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line["task"] for line in lines))


def main() -> None:
    """Compare, print the summary, write the JSON."""
    parser = command_line.parser(__doc__)
    parser.add_argument("checkpoint", nargs="?", default="smollm2-135m")
    parser.add_argument(
        "--documents", type=command_line.positive, default=30, help="documents of each commonsense task"
    )
    parser.add_argument("--texts", type=command_line.positive, default=10, help="documents of each task that generates")
    parser.add_argument("--whole", action="store_true", help="texts and ids themselves, not their SHA-256")
    parser.add_argument("--output", type=command_line.new_file, required=True)
    args = parser.parse_args()

    quiet_lm_eval()
    ours, theirs = models(args.checkpoint)
    scores, texts = [], []
    for name in COMMONSENSE:
        scores += compare_scores(name, args.documents, ours, theirs, whole=args.whole)
        print(name, summary(scores, [])["scores"][name], flush=True)
    for name in GENERATED:
        texts += compare_texts(name, args.texts, ours, theirs, whole=args.whole)
        print(name, summary(scores, texts)["texts"][name], flush=True)
    found = {
        "checkpoint": args.checkpoint,
        "weights_sha256": fingerprint(ours.path),
        "tokenizer_sha256": ours.tokenizer_sha256,
        "batch_size": {"ours": ours.batch_size, "hflm": 1},
        "dtype": "float32",
        "data_sha256": {name: data.file_sha256(data.path(name_of_file(name))) for name in COMMONSENSE},
        "summary": summary(scores, texts),
        "machine": asdict(describe()),
        "versions": {name: version(name) for name in ("torch", "transformers", "lm-eval")},
        "scores": scores,
        "texts": texts,
    }
    args.output.write_text(as_json(found), encoding="utf-8")
    print(json.dumps(found["summary"]["scores"]["all"], indent=1))


if __name__ == "__main__":
    command_line.answer(main)
