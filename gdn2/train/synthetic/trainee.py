"""One model in training: on a GPU a step is a CUDA graph on a stream of its own, so that many small models share it."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gdn2.config import GDN2Config
from gdn2.model import GDN2ForCausalLM
from gdn2.train.optimizers import weight_groups
from gdn2.train.synthetic.data import RowBatch, batches
from gdn2.train.synthetic.spec import Run

WARM_UP = 3  # steps before a graph is recorded, which PyTorch asks for; they leave no trace
EVALUATED_ROWS = 256  # at a time


class Trainee:
    """A model, its optimizer, and where it is in its training.

    Steps do not wait for the device. Nothing is drawn at random but the initial weights, by the run's seed on the CPU,
    and the order of the batches.

    Args:
        run: what to do.
        rows: the training rows of each kind, on the device; several trainees may share them.
    """

    def __init__(self, run: Run, rows: list[RowBatch]) -> None:
        self.run, self.rows, self.device = run, rows, rows[0].tokens.device
        torch.manual_seed(run.seed)
        self.model = GDN2ForCausalLM(GDN2Config(**run.config)).train()
        self.model.to(device=self.device)
        self.is_gpu = self.device.type == "cuda"
        self.stream = torch.cuda.Stream(self.device) if self.is_gpu else None
        self.rate = torch.tensor(run.learning_rate, device=self.device)
        self.optimizer = self._make_optimizer()
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.step, self.summed = 0, 0
        self._order = batches(run, [len(part) for part in rows])
        self._steps: list[Callable[[Tensor], None]] = []
        self._prepare()

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken."""
        return self.step >= self.run.training.steps

    def advance(self) -> None:
        """Take one step; on a GPU it is only asked for."""
        kind, chosen = next(self._order)
        with self.on_stream():
            self.rate.fill_(self.run.learning_rate * share_of_rate(self.step, self.run))
            self._steps[kind](torch.from_numpy(chosen).to(self.device, non_blocking=True))
        self.step += 1
        self.summed += 1

    def mean_loss(self) -> float:
        """The mean loss of the steps since this was asked last, in nats; waits for the device."""
        with self.on_stream():
            mean = float(self.loss_sum) / max(self.summed, 1)
            self.loss_sum.zero_()
        self.summed = 0
        return mean

    @torch.no_grad()
    def evaluate(self, batch: RowBatch) -> tuple[float, Tensor]:
        """Ask rows.

        Returns:
            The mean loss of the answers in nats, and how many answers of each row are right, int64 [B] on the CPU.
        """
        losses, right = 0.0, []
        with self.on_stream():
            for start in range(0, len(batch), EVALUATED_ROWS):
                part = RowBatch(
                    *(x[start : start + EVALUATED_ROWS] for x in (batch.tokens, batch.places, batch.answers))
                )
                logits = self._logits(part)
                losses += float(cross_entropy(logits.flatten(0, 1), part.answers.flatten(), reduction="sum"))
                right.append((logits.argmax(-1) == part.answers).sum(-1).cpu())
        return losses / batch.answers.numel(), torch.cat(right)

    def on_stream(self) -> contextlib.AbstractContextManager[Any]:
        """What is done inside is done on this trainee's stream."""
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def _logits(self, batch: RowBatch) -> Tensor:
        halved = self.run.training.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=halved, cache_enabled=False):
            hidden = self.model.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
            asked = hidden.gather(1, batch.places[..., None].expand(-1, -1, hidden.shape[-1]))
            logits: Tensor = self.model.lm_head(asked)
        return logits.float()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        groups = weight_groups(list(self.model.named_parameters()), self.run.training.weight_decay)
        return torch.optim.AdamW(groups, lr=self.rate, betas=(0.9, 0.98), fused=True, capturable=self.is_gpu)

    def _prepare(self) -> None:
        """Make the function of a step of each kind; graphs share their memory, since no two of them run at once."""
        if not self.is_gpu:
            self._steps = [self._eager(part) for part in self.rows]
            return
        before = copy.deepcopy(self.model.state_dict())
        pool = torch.cuda.graph_pool_handle()
        assert self.stream is not None
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            for part in self.rows:
                first = part.take(torch.arange(self.run.training.batch_rows, device=self.device))
                for _ in range(WARM_UP):
                    self._learn(first)
                self.stream.synchronize()
                graph = torch.cuda.CUDAGraph()
                self.optimizer.zero_grad(set_to_none=True)
                with torch.cuda.graph(graph, pool=pool, stream=self.stream):
                    self._learn(first)
                self._steps.append(_replayed(graph, first, part))
            self.model.load_state_dict(before)
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()
            self.loss_sum.zero_()
        self.stream.synchronize()

    def _eager(self, part: RowBatch) -> Callable[[Tensor], None]:
        return lambda chosen: self._learn(part.take(chosen))

    def _learn(self, batch: RowBatch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(self._logits(batch).flatten(0, 1), batch.answers.flatten())
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.run.training.clip_norm, foreach=True)
        self.optimizer.step()
        self.loss_sum += loss.detach()


def share_of_rate(step: int, run: Run) -> float:
    """The rate of a step, counted from 0, as a share of the peak: a line up, then half a cosine down to nothing."""
    steps, warm = run.training.steps, round(run.training.steps * run.training.warmup)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))


def _replayed(graph: Any, static: RowBatch, rows: RowBatch) -> Callable[[Tensor], None]:
    def step(chosen: Tensor) -> None:
        static.copy_rows(rows, chosen)
        graph.replay()

    return step


@contextlib.contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Matrix products of float32 as a GPU does them fastest, by TensorFloat-32 where it has that; nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Inside, kernels and graphs that name no device are of this one, if it is a GPU."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
