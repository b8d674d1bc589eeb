"""Train a checkpoint by a recipe: `python -m gdn2.train RECIPE.yaml [--out FOLDER] [--work FOLDER]`."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

from gdn2.train.recipe import Recipe, RecipeError, load_recipe


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gdn2.train", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a recipe, such as gdn2/zoo/<name>/recipe.yaml")
    parser.add_argument("--out", type=Path, help="folder of the checkpoint (default: the recipe's own folder)")
    parser.add_argument("--work", type=Path, help="folder of what a later run needs to go on (default: runs/<name>)")
    args = parser.parse_args(argv)
    try:
        recipe = load_recipe(args.recipe)
        run(recipe, args.out or args.recipe.parent, args.work or Path("runs") / recipe.name)
    except RecipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last save", file=sys.stderr)
        return 130
    return 0


def run(recipe: Recipe, out: Path, work: Path) -> None:
    """Tokenizer, corpus, training, export; everything that was finished before is taken from `work`."""
    import torch

    from gdn2 import GDN2Config, GDN2ForCausalLM
    from gdn2.train.batches import BatchMaker
    from gdn2.train.corpus import load_corpus, read_texts
    from gdn2.train.export import export
    from gdn2.train.loop import train
    from gdn2.train.tokenizer import train_tokenizer

    work.mkdir(parents=True, exist_ok=True)
    train_path, _ = recipe.data.paths()
    texts = itertools.islice(read_texts(train_path), recipe.tokenizer.documents)
    tokenizer = train_tokenizer(texts, recipe.tokenizer.vocab_size, recipe.tokenizer.digits)
    corpus = load_corpus(train_path, tokenizer)
    print(f"{corpus.documents:,} paragraphs, {len(corpus.stream):,} tokens, {len(corpus.key_words):,} key words")

    torch.manual_seed(recipe.seed)
    special = tokenizer.eos_token_id
    try:
        config = GDN2Config(
            vocab_size=len(tokenizer), bos_token_id=special, eos_token_id=special, pad_token_id=special, **recipe.model
        )
    except (ValueError, TypeError) as error:
        raise RecipeError(f"model: {error}") from error
    model = GDN2ForCausalLM(config)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    log = train(recipe, model, BatchMaker(recipe, corpus, tokenizer), work, lambda line: print(line, flush=True))
    export(recipe, model, tokenizer, corpus, log, out)
    print(f"checkpoint written to {out}")


if __name__ == "__main__":
    sys.exit(main())
