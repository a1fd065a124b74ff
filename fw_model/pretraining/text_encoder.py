"""Training of a small UMT5 encoder on prompts whose facts are known.

A text tower trained against still pictures does not encode who does what, because pictures do not
show it. So this encoder is trained through a reader: one cross-attention, like that of the video
transformer, answers questions about each prompt from its tokens ("what does the bear do?").

B prompts in a batch, T tokens, D width, Q questions, A answers per question at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from fw_model.diffusion.schedule import derive_seed
from fw_model.files.atomic import atomic_folder
from fw_model.optim.muon import Muon, split_weights
from fw_model.pretraining.clip import GENERAL_ENGLISH
from fw_model.pretraining.run import LogEvery, LoopConfig, Parts, SaveEvery, move, pretrain
from fw_model.pretraining.tokenizer import PAD, START, train_tokenizer

_NUM_FIRST_BATCHES = 20  # train the tokenizer and identify the prompts of a run
_NUM_MEASURED_BATCHES = 8
_BIAS_PER_TOKEN = (-2.0, -0.5, -0.15)  # of heads that look nearby, farther away, everywhere
_BIAS_OF_OTHER_SIDE = -4.0


class TextPretrainConfig(LoopConfig):
    """The small UMT5 encoder and how it is trained."""

    width: int = Field(192, ge=16, description="Width of a token.")
    layers: int = Field(3, ge=1, description="Layers.")
    head_width: int = Field(32, ge=8, description="Width of an attention head.")
    ffn_width: int = Field(384, ge=16, description="Width inside a layer's feed-forward part.")
    num_tokens: int = Field(36, ge=8, description="Most tokens of a prompt; more are cut off.")
    vocab_size: int = Field(1024, ge=300, description="Entries of the tokenizer.")
    batch_size: int = Field(128, ge=2, description="Prompts in a step.")
    steps: int = Field(700, ge=1, description="Optimizer steps.")
    learning_rate: float = Field(0.02, gt=0, description="Peak rate of Muon, for matrices.")
    adam_learning_rate: float = Field(5e-3, gt=0, description="Peak rate of Adam, for the rest.")
    log_every: LogEvery = 50
    save_every: SaveEvery = 250


@dataclass(frozen=True)
class KnownPrompt:
    """A prompt and its facts: the answer to every question."""

    text: str
    answers: Mapping[str, str]


SamplePrompts = Callable[[int, int], Sequence[KnownPrompt]]
"""(number, count) -> `count` prompts, the same for the same `number`. Training uses numbers from 0
on; negative numbers give held-out prompts."""


class PromptReader(nn.Module):
    """One cross-attention with a learned query per question; used only in training."""

    def __init__(self, questions: Mapping[str, Sequence[str]], width: int, head_width: int) -> None:
        super().__init__()
        most = max(len(answers) for answers in questions.values())
        self.queries = nn.Parameter(torch.randn(len(questions), width))
        self.attention = nn.MultiheadAttention(width, width // head_width, batch_first=True)
        self.answers = nn.Parameter(torch.randn(len(questions), width, most) / width**0.5)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return logits [B, Q, A] read from `tokens` [B, T, D] where `mask` [B, T] holds."""
        queries = self.queries.expand(len(tokens), -1, -1)  # [B, Q, D]
        read, _ = self.attention(queries, tokens, tokens, ~mask, need_weights=False)
        return torch.einsum("bqd,qda->bqa", functional.gelu(read), self.answers)


def pretrain_text_encoder(
    config: TextPretrainConfig,
    questions: Mapping[str, Sequence[str]],
    sample: SamplePrompts,
    output: Path,
) -> dict[str, float]:
    """Train, resuming the run in `output`; return the held-out accuracy.

    Leaves `text_encoder/` and `tokenizer/` (the layout of the Wan models, half precision),
    `metrics.jsonl` and `state.pt`.
    """
    first_prompts = [p for n in range(_NUM_FIRST_BATCHES) for p in sample(n, config.batch_size)]
    texts = [prompt.text for prompt in first_prompts]
    tokenizer = train_tokenizer([*texts, *GENERAL_ENGLISH], vocab_size=config.vocab_size)
    tokenizer.model_max_length = config.num_tokens
    torch.manual_seed(derive_seed(config.seed, "text-weights"))
    encoder = UMT5EncoderModel(_umt5_config(config, tokenizer))
    _look_near(encoder)
    reader = PromptReader(questions, config.width, config.head_width)
    both = nn.ModuleDict({"encoder": encoder, "reader": reader})
    matrices, others = split_weights(both)
    muon = Muon(matrices, lr=config.learning_rate)
    adam = torch.optim.AdamW(others, lr=config.adam_learning_rate)

    def step(number: int, fraction: float) -> dict[str, Tensor]:
        prompts = sample(number, config.batch_size)
        logits, truth = _answer(both, tokenizer, questions, prompts, config)
        loss = functional.cross_entropy(logits.flatten(0, 1), truth.flatten())
        move((muon, adam), loss, fraction)
        return {"loss": loss}

    def export() -> dict[str, float]:
        accuracy = measure_reading(both.eval(), tokenizer, questions, sample, config)
        with atomic_folder(output / "text_encoder") as folder:
            encoder.half().save_pretrained(folder)
        with atomic_folder(output / "tokenizer") as folder:
            tokenizer.save_pretrained(str(folder))
        return accuracy

    parts: Parts = {"both": both, "muon": muon, "adam": adam}
    identity = hashlib.sha256(repr(first_prompts).encode()).hexdigest()[:16]
    return pretrain(
        config, parts, output, num_steps=config.steps, data=identity, step=step, export=export
    )


@torch.no_grad()
def measure_reading(
    both: nn.ModuleDict,
    tokenizer: PreTrainedTokenizerFast,
    questions: Mapping[str, Sequence[str]],
    sample: SamplePrompts,
    config: TextPretrainConfig,
) -> dict[str, float]:
    """Return the share of right answers to each question on held-out prompts."""
    right = []
    for number in range(-_NUM_MEASURED_BATCHES, 0):
        logits, truth = _answer(
            both, tokenizer, questions, sample(number, config.batch_size), config
        )
        right.append(logits.argmax(-1) == truth)  # [B, Q]
    shares = torch.cat(right).float().mean(0).tolist()
    return dict(zip(questions, shares, strict=True))


def _answer(
    both: nn.ModuleDict,
    tokenizer: PreTrainedTokenizerFast,
    questions: Mapping[str, Sequence[str]],
    prompts: Sequence[KnownPrompt],
    config: TextPretrainConfig,
) -> tuple[Tensor, Tensor]:
    """Return logits [B, Q, A] of the answers, -inf past its last answer, and the truth [B, Q]."""
    inputs = tokenizer(
        [prompt.text for prompt in prompts],
        padding=True,
        max_length=config.num_tokens,
        truncation=True,
        return_tensors="pt",
    )
    mask = inputs.attention_mask.bool()  # [B, T]
    tokens = both["encoder"](inputs.input_ids, mask).last_hidden_state  # [B, T, D]
    logits = both["reader"](tokens, mask)  # [B, Q, A]
    counts = torch.tensor([len(answers) for answers in questions.values()])
    none = torch.arange(logits.shape[-1]) >= counts[:, None]  # [Q, A]
    truth = [[a.index(p.answers[q]) for q, a in questions.items()] for p in prompts]
    return logits.masked_fill(none, -torch.inf), torch.tensor(truth)


@torch.no_grad()
def _look_near(encoder: UMT5EncoderModel) -> None:
    """Initialise each head to attend to nearby tokens on one side.

    The subject of a verb stands just before it. With biases near zero it took hundreds of steps to
    learn that; with these it takes a few dozen.
    """
    for block in encoder.encoder.block:
        attention = block.layer[0].SelfAttention
        bias = attention.relative_attention_bias.weight  # [buckets, heads]
        offsets = torch.arange(-len(bias), len(bias) + 1)
        buckets = attention._relative_position_bucket(offsets)
        for head in range(bias.shape[1]):
            side = -1 if head % 2 == 0 else 1
            slope = _BIAS_PER_TOKEN[head // 2 % len(_BIAS_PER_TOKEN)]
            other = (offsets * side < 0).float() * _BIAS_OF_OTHER_SIDE
            bias[buckets, head] = slope * offsets.abs() + other


def _umt5_config(config: TextPretrainConfig, tokenizer: PreTrainedTokenizerFast) -> UMT5Config:
    return UMT5Config(
        vocab_size=len(tokenizer),
        d_model=config.width,
        d_kv=config.head_width,
        d_ff=config.ffn_width,
        num_layers=config.layers,
        num_heads=config.width // config.head_width,
        dropout_rate=0.0,
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        decoder_start_token_id=tokenizer.convert_tokens_to_ids(START),
        eos_token_id=tokenizer.eos_token_id,
    )
