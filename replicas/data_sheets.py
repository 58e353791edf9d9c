"""What makers publish: GPUs' peak numbers and models' shapes. It knows no engine and no measurement.

GPUs: dense bf16 FLOP/s without sparsity, HBM bytes/s, memory bytes, bytes/s a GPU sends to its peers (one direction). Sources,
all public data sheets: NVIDIA H100 (SXM5 and PCIe, 2023), H200 (2024), DGX/HGX B200 (2024), A100 (2021), L40S (2023), A10 as
AWS's A10G (EC2 G5, 70 TFLOP/s of tensor cores), L4 (2023); AMD Instinct MI300X (2023). Models: each one's `config.json` on the
Hugging Face hub.
"""

from dataclasses import dataclass

_BF16_BYTES = 2


@dataclass(frozen=True, slots=True)
class Gpu:
    """Peak numbers of one card."""

    label: str
    flops: float
    memory_bytes_s: float
    memory_bytes: float
    link_bytes_s: float


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A dense decoder with grouped-query attention and a gated feed-forward net (Llama, Qwen2, Mistral), in bf16."""

    label: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    context_tokens: int
    tied_embeddings: bool = False

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    @property
    def layer_parameters(self) -> int:
        """Of all layers: query and output, key and value, three matrices of the feed-forward net."""
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.kv_heads * self.head_size
        return self.layers * (attention + 3 * self.hidden * self.ffn)

    @property
    def parameters(self) -> int:
        return self.layer_parameters + self.vocab * self.hidden * (1 if self.tied_embeddings else 2)

    @property
    def weight_bytes(self) -> int:
        return self.parameters * _BF16_BYTES

    @property
    def kv_bytes_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_size * _BF16_BYTES


GPUS = {
    "h100-sxm": Gpu("NVIDIA H100 SXM 80GB", 989e12, 3.35e12, 80e9, 450e9),
    "h100-pcie": Gpu("NVIDIA H100 PCIe 80GB", 756e12, 2.0e12, 80e9, 64e9),
    "h200": Gpu("NVIDIA H200 141GB", 989e12, 4.8e12, 141e9, 450e9),
    "b200": Gpu("NVIDIA B200 180GB", 2250e12, 8.0e12, 180e9, 900e9),
    "a100-40": Gpu("NVIDIA A100 SXM 40GB", 312e12, 1.555e12, 40e9, 300e9),
    "a100-80": Gpu("NVIDIA A100 SXM 80GB", 312e12, 2.039e12, 80e9, 300e9),
    "l40s": Gpu("NVIDIA L40S 48GB", 362e12, 0.864e12, 48e9, 32e9),
    "a10g": Gpu("NVIDIA A10G 24GB", 70e12, 0.6e12, 24e9, 32e9),
    "l4": Gpu("NVIDIA L4 24GB", 121e12, 0.3e12, 24e9, 32e9),
    "mi300x": Gpu("AMD Instinct MI300X 192GB", 1307e12, 5.3e12, 192e9, 448e9),
}

MODELS = {
    "llama-3-8b": ModelShape("Llama-3-8B", 32, 4096, 32, 8, 14336, 128_256, 8192),
    "llama-3.1-8b": ModelShape("Llama-3.1-8B", 32, 4096, 32, 8, 14336, 128_256, 131_072),
    "llama-3-70b": ModelShape("Llama-3-70B", 80, 8192, 64, 8, 28672, 128_256, 8192),
    "llama-3.1-70b": ModelShape("Llama-3.1-70B", 80, 8192, 64, 8, 28672, 128_256, 131_072),
    "mistral-7b": ModelShape("Mistral-7B-v0.3", 32, 4096, 32, 8, 14336, 32_768, 32_768),
    "qwen2.5-0.5b": ModelShape("Qwen2.5-0.5B", 24, 896, 14, 2, 4864, 151_936, 32_768, tied_embeddings=True),
    "qwen2.5-1.5b": ModelShape("Qwen2.5-1.5B", 28, 1536, 12, 2, 8960, 151_936, 32_768, tied_embeddings=True),
    "qwen2.5-7b": ModelShape("Qwen2.5-7B", 28, 3584, 28, 4, 18944, 152_064, 32_768),
    "qwen2.5-32b": ModelShape("Qwen2.5-32B", 64, 5120, 40, 8, 27648, 152_064, 32_768),
    "qwen2.5-72b": ModelShape("Qwen2.5-72B", 80, 8192, 64, 8, 29568, 152_064, 32_768),
}
