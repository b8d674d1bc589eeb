"""The rows of a staged data set as documents of lm-eval's own tasks; columns are added, none is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks import data
from tasks.documents import as_dataset
from tasks.errors import TaskError
from tasks.subset import SubsetSpec, choose, text_cluster, text_hash

if TYPE_CHECKING:
    import datasets


def build(
    spec: Mapping[str, Any], *, max_samples: int | None = None, **_lm_eval_metadata: Any
) -> dict[str, datasets.Dataset]:
    """The documents of one task, called by lm-eval with `dataset_kwargs` and its metadata.

    Each row gets `row` (its place in the data set), `index`, `seed`, `sample_hash`, and `cluster` where several rows
    may ask about one text.

    Args:
        spec: the fields of SubsetSpec; `file`, the staged rows; and `examples`, the staged rows of solved examples,
            which are read only if some are asked for.
        max_samples: only the first so many documents; the ones chosen are the same.

    Raises:
        TaskError: a wrong field, or changed columns.
        DataNotStaged: the file is missing.
    """
    if not isinstance(spec.get("file"), str):
        raise TaskError("spec: field 'file' is missing")
    name = spec["file"]
    examples = {"source": name, "examples": spec["examples"]} if "examples" in spec else {}
    parsed = SubsetSpec.parse({key: value for key, value in spec.items() if key not in ("file", "examples")})
    chosen = choose(name, list(enumerate(data.rows(name))), parsed, max_samples)
    docs = [
        {**row, **examples, "row": place, "index": index, "seed": parsed.seed}
        | {"sample_hash": text_hash(json.dumps(row, sort_keys=True, ensure_ascii=False))}
        | ({"cluster": cluster} if (cluster := text_cluster(row)) is not None else {})
        for index, (place, row) in enumerate(chosen)
    ]
    return {"test": as_dataset(docs)}
