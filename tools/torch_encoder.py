"""A BERT or RoFormer with head and pooler in PyTorch, for training the bundled weights (tools/train_bundled.py).

Written for speed on a card: one product for query, key and value, the attention fused. It reads and writes model
folders in Hugging Face's format, which `kexue_keras.models.load` takes.
"""

import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

ATTENTION = ("query", "key", "value")


class Block(nn.Module):
    """Attention and feed-forward layer, each with dropout, residual and normalisation after it."""

    def __init__(self, config, dropout):
        super().__init__()
        size, inner = config["hidden_size"], config["intermediate_size"]
        self.heads, self.dropout = config["num_attention_heads"], dropout
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.up, self.down = nn.Linear(size, inner), nn.Linear(inner, size)
        self.norm1, self.norm2 = nn.LayerNorm(size, eps=1e-12), nn.LayerNorm(size, eps=1e-12)

    def forward(self, x, mask, angles):
        rows, n, size = x.shape
        q, k, v = self.qkv(x).view(rows, n, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = self.out(y.transpose(1, 2).reshape(rows, n, size))
        x = self.norm1(x + F.dropout(y, self.dropout, self.training))
        y = self.down(F.gelu(self.up(x)))
        return self.norm2(x + F.dropout(y, self.dropout, self.training))


def rotate(x, sin, cos):
    """Neighbours (2i, 2i + 1) of the last axis turned by the angle i of their position."""
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).reshape(x.shape)
    return (x * cos + turned * sin).to(x.dtype)


class Encoder(nn.Module):
    """Embeddings, blocks, a head tied to the embedding; a RoFormer also has a linear pooler, at first the identity.

    Args:
        config: dict in Hugging Face's words; model_type 'bert' or 'roformer'.
        dropout: of embeddings and blocks.
    """

    def __init__(self, config, *, dropout=0.0):
        super().__init__()
        self.config, size = config, config["hidden_size"]
        self.rotary = config["model_type"] == "roformer"
        positions = config["max_position_embeddings"]
        self.words, self.types = nn.Embedding(config["vocab_size"], size), nn.Embedding(2, size)
        self.places = None if self.rotary else nn.Embedding(positions, size)
        self.norm = nn.LayerNorm(size, eps=1e-12)
        self.blocks = nn.ModuleList(Block(config, dropout) for _ in range(config["num_hidden_layers"]))
        self.dense, self.head_norm = nn.Linear(size, size), nn.LayerNorm(size, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(config["vocab_size"]))
        self.pooler = nn.Linear(size, size) if self.rotary else None
        if self.rotary:
            nn.init.eye_(self.pooler.weight)
            nn.init.zeros_(self.pooler.bias)
        of_a_head = size // config["num_attention_heads"]
        angles = torch.arange(positions)[:, None] / 10000.0 ** (torch.arange(0, of_a_head, 2) / of_a_head)
        self.register_buffer("angles", angles, persistent=False)
        self.set_dropout(dropout)

    def set_dropout(self, dropout):
        """From now on."""
        for part in [self] + list(self.blocks):
            part.dropout = dropout

    def forward(self, tokens, segments, mask):
        """Hidden states `[B, n, d]`; `mask` is boolean, True where a token may be seen, `[B, 1, 1 or n, n]`."""
        n, angles = tokens.shape[1], None
        x = self.words(tokens) + (self.types.weight[0] if segments is None else self.types(segments))
        if self.rotary:
            turned = self.angles[:n].repeat_interleave(2, dim=1)
            angles = torch.sin(turned), torch.cos(turned)
        else:
            x = x + self.places.weight[:n]
        x = F.dropout(self.norm(x), self.dropout, self.training)
        for block in self.blocks:
            x = block(x, mask, angles)
        return x

    def logits(self, hidden):
        """Scores of the vocabulary for hidden states `[m, d]`."""
        return F.linear(self.head_norm(F.gelu(self.dense(hidden))), self.words.weight, self.bias)

    def head(self):
        """Its parameters but for the embedding."""
        return [self.bias] + list(self.dense.parameters()) + list(self.head_norm.parameters())

    def named_variables(self):
        """Pairs of Hugging Face's names without the kind in front ('encoder.layer.0. ...') and views of parameters."""
        modules = {"embeddings.word_embeddings": self.words, "embeddings.token_type_embeddings": self.types}
        modules["embeddings.LayerNorm"] = self.norm
        if self.places is not None:
            modules["embeddings.position_embeddings"] = self.places
        if self.pooler is not None:
            modules["pooler.dense"] = self.pooler
        for i, block in enumerate(self.blocks):
            layer = "encoder.layer.%d." % i
            modules[layer + "attention.output.dense"] = block.out
            modules[layer + "attention.output.LayerNorm"] = block.norm1
            modules[layer + "intermediate.dense"], modules[layer + "output.dense"] = block.up, block.down
            modules[layer + "output.LayerNorm"] = block.norm2
            for number, part in enumerate(ATTENTION):
                for kind, whole in block.qkv.named_parameters():
                    yield layer + "attention.self.%s.%s" % (part, kind), whole.data.chunk(3)[number]
        modules["cls.predictions.transform.dense"] = self.dense
        modules["cls.predictions.transform.LayerNorm"] = self.head_norm
        for name, module in modules.items():
            for kind, value in module.named_parameters():
                yield name + "." + kind, value.data
        yield "cls.predictions.bias", self.bias.data

    @torch.no_grad()
    def fill(self, folder):
        """Take the weights of a model folder, a BERT's or a RoFormer's; returns the names that it lacks."""
        given = {plain(name): value for name, value in load_file(os.path.join(folder, "model.safetensors")).items()}
        absent = [name for name, own in self.named_variables() if name not in given]
        for name, own in self.named_variables():
            if name in given:
                own.copy_(given[name])
        if self.rotary and "embeddings.position_embeddings.weight" in given:
            # What the positions were on average goes into the segments', so that the blocks see sums of a known size.
            places = given["embeddings.position_embeddings.weight"][:96].float().mean(0)
            self.types.weight += places.to(self.types.weight.device)
        return absent

    def save(self, folder, like):
        """Write a model folder; vocabulary and tokenizer come from the folder `like`."""
        kind = self.config["model_type"]
        arrays = {
            name if name.startswith("cls.") else kind + "." + name: value.float().cpu().contiguous()
            for name, value in self.named_variables()
        }
        if self.rotary:
            table = torch.cat([torch.sin(self.angles), torch.cos(self.angles)], dim=1)
            arrays["roformer.encoder.embed_positions.weight"] = table.float().cpu()
        os.makedirs(folder, exist_ok=True)
        save_file(arrays, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        with open(os.path.join(folder, "config.json"), "w") as handle:
            json.dump(self.config, handle, indent=1)
        for name in ("vocab.txt", "tokenizer_config.json"):
            if os.path.exists(os.path.join(like, name)):
                shutil.copy(os.path.join(like, name), folder)


def plain(name):
    """Hugging Face's name without the kind of model in front."""
    kind, _, rest = name.partition(".")
    return rest if kind in ("bert", "roformer") else name


def read_config(folder, kind):
    """A folder's configuration, turned into one of `kind`."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as handle:
        config = json.load(handle)
    name = {"bert": "BertForMaskedLM", "roformer": "RoFormerForMaskedLM"}[kind]
    config.update(model_type=kind, architectures=[name], hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    if kind == "roformer":
        config.update(embedding_size=config["hidden_size"], rotary_value=False)
    return config
