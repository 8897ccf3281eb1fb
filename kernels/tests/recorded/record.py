"""Records what torch and transformers compute, for the test beside this file.

    python record.py        writes values.json

Each case names what computed `out`, and has the operands in float32; everything runs on the CPU in float32. The same
versions give the same file; it was made with torch 2.15.0 and transformers 5.23.0.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers
from torch.nn import functional
from transformers.activations import ACT2FN
from transformers.models.cohere import modeling_cohere as cohere
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek_v3
from transformers.models.gemma2 import modeling_gemma2 as gemma2
from transformers.models.gpt_neox import modeling_gpt_neox as gpt_neox
from transformers.models.gpt_oss import modeling_gpt_oss as gpt_oss
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama
from transformers.models.mixtral import modeling_mixtral as mixtral
from transformers.models.opt import modeling_opt as opt
from transformers.models.qwen3_moe import modeling_qwen3_moe as qwen3_moe

VERSIONS = {"torch": "2.15.0", "transformers": "5.23.0"}
LARGEST_FILE = 200_000

CASES = []


def record(op, source, out, **operands):
    """Adds a case. Tensors become flat lists in row-major order."""
    case = {"op": op, "source": source} | operands | {"out": out}
    CASES.append({name: plain(value) for name, value in case.items()})


def plain(value):
    if not isinstance(value, torch.Tensor):
        return value
    flat = value.detach().reshape(-1)
    if not flat.is_floating_point():
        return flat.tolist()
    assert flat.dtype == torch.float32 and flat.isfinite().all()
    # The shortest digits that give the same float32.
    return [float(str(number)) for number in flat.numpy()]


def uniform(*shape, scale=1.0):
    return (torch.rand(shape) * 2 - 1) * scale


def with_parameters(module, scale=1.0):
    """The module with random parameters."""
    for parameter in module.parameters():
        parameter.data = uniform(*parameter.shape, scale=scale)
    return module.eval()


def norms():
    x = uniform(3, 37, scale=3) + 0.5
    gain, shift = uniform(37), uniform(37)
    for weight, bias in [(None, None), (gain, None), (gain, shift)]:
        given = {name: value for name, value in [("gain", weight), ("shift", bias)] if value is not None}
        out = functional.layer_norm(x, (37,), weight, bias, eps=1e-5)
        record("norm", "torch.nn.functional.layer_norm", out, x=x, width=37, eps=1e-5, centre=True, offset=0.0, **given)
    for centre, offset, eps, module in [
        (False, 0.0, 1e-6, llama.LlamaRMSNorm(37, eps=1e-6)),
        (False, 1.0, 1e-6, gemma2.Gemma2RMSNorm(37, eps=1e-6)),
        (True, 0.0, 1e-5, cohere.CohereLayerNorm(37, eps=1e-5)),
    ]:
        module = with_parameters(module)
        name = type(module).__name__
        record(
            "norm", name, module(x), x=x, width=37, eps=eps, centre=centre, offset=offset, gain=module.weight
        )
    heads = with_parameters(cohere.CohereLayerNorm((4, 16), eps=1e-5))
    x = uniform(3, 4, 16)
    record("norm_of_heads", "CohereLayerNorm of heads", heads(x), x=x, width=16, eps=1e-5, gain=heads.weight)
    x, gain = uniform(3, 19), uniform(19)
    record("centre", "x - x.mean(-1, keepdim=True)", x - x.mean(-1, keepdim=True), x=x, width=19)
    record("gain", "x * gain", x * gain, x=x, gain=gain, offset=0.0)
    record("gain", "x * (1 + gain)", x * (1.0 + gain), x=x, gain=gain, offset=1.0)
    record("shift", "x + shift", x + gain, x=x, shift=gain)


def activations():
    x = torch.cat([torch.linspace(-10, 10, 81), uniform(20, scale=0.1), torch.tensor([0.0, -0.0, 1e-30, -1e3, 1e3])])
    value = uniform(len(x))
    for function, name in [
        ("silu", "silu"),
        ("gelu", "gelu"),
        ("gelu_tanh", "gelu_pytorch_tanh"),
        ("gelu_tanh", "gelu_new"),
        ("gelu_quick", "quick_gelu"),
        ("relu", "relu"),
        ("relu_squared", "relu2"),
        ("sigmoid", "sigmoid"),
        ("tanh", "tanh"),
    ]:
        activate = ACT2FN[name]
        record("unary", f"ACT2FN[{name}]", activate(x), function=function, x=x)
        record("gated", f"ACT2FN[{name}](gate) * value", activate(x) * value, function=function, gate=x, value=value)


def arithmetic():
    a, b = uniform(45, scale=10), uniform(45)
    record("binary", "a + b", a + b, function="add", a=a, b=b)
    record("binary", "a - b", a - b, function="sub", a=a, b=b)
    record("binary", "a * b", a * b, function="mul", a=a, b=b)
    record("affine", "a * factor", a * 0.22, x=a, factor=0.22, offset=0.0)
    record("affine", "a * factor + offset", a * 0.22 + 1.5, x=a, factor=0.22, offset=1.5)
    record("clamp", "torch.clamp", torch.clamp(a, -7.0, 3.0), x=a, low=-7.0, high=3.0)
    capped = torch.tanh(a / 7.0) * 7.0
    record("softcap", "tanh(x / cap) * cap, as in Gemma2ForCausalLM", capped, x=a, cap=7.0)
    scores = uniform(4, 21, scale=8)
    record("softmax", "torch.nn.functional.softmax", functional.softmax(scores, dim=-1), x=scores, width=21)
    positive = scores.abs()
    record("normalize_sum", "x / x.sum(-1)", positive / positive.sum(-1, keepdim=True), x=positive, width=21)


def products():
    x, weight, bias = uniform(5, 24), uniform(17, 24), uniform(17)
    for given in [None, bias]:
        operands = {} if given is None else {"bias": given}
        out = functional.linear(x, weight, given)
        record("matmul", "torch.nn.functional.linear", out, x=x, weight=weight, width=24, **operands)
    table, ids = uniform(11, 9), torch.tensor([3, 0, 10, 3])
    out = functional.embedding(ids, table)
    record("embed", "torch.nn.functional.embedding", out, table=table, width=9, index=ids, first=0)
    positions = with_parameters(opt.OPTLearnedPositionalEmbedding(8, 9))
    ids = torch.arange(8)
    out = positions(torch.ones(1, 8, dtype=torch.long))
    source = "OPTLearnedPositionalEmbedding"
    record("embed", source, out, table=positions.weight, width=9, index=ids, first=2)


def rotations():
    tokens, heads = 5, 2
    positions = torch.tensor([0, 1, 7, 100, 4001])
    x = uniform(1, heads, tokens, 16)

    def angles(pairs):
        frequencies = 1.0 / 10000.0 ** (torch.arange(pairs) / pairs)
        return frequencies, positions[:, None].float() * frequencies

    def case(source, out, frequencies, pairing):
        # transformers has heads before tokens.
        x_by_token, out = x.transpose(1, 2), out.transpose(1, 2)
        record(
            "rope", source, out, x=x_by_token, width=16, positions=positions, frequencies=frequencies, pairing=pairing
        )

    frequencies, angle = angles(8)
    both = torch.cat([angle, angle], dim=-1)[None]
    case("llama", llama.apply_rotary_pos_emb(x, x, both.cos(), both.sin())[0], frequencies, "half")
    both = angle.repeat_interleave(2, dim=-1)[None]
    case("cohere", cohere.apply_rotary_pos_emb(x, x, both.cos(), both.sin())[0], frequencies, "interleaved")
    frequencies, angle = angles(3)
    both = torch.cat([angle, angle], dim=-1)[None]
    case("gpt_neox", gpt_neox.apply_rotary_pos_emb(x, x, both.cos(), both.sin())[0], frequencies, "half")
    turned = gptj.apply_rotary_pos_emb(x.transpose(1, 2)[..., :6], angle.sin()[None], angle.cos()[None]).transpose(1, 2)
    case("gptj", torch.cat([turned, x[..., 6:]], dim=-1), frequencies, "interleaved")


def attention():
    heads, kv_heads, width, tokens, past = 4, 2, 9, 6, 4
    length = past + tokens
    q = uniform(1, heads, tokens, width, scale=3)
    keys, values = uniform(1, kv_heads, length, width, scale=3), uniform(1, kv_heads, length, width)
    sinks = uniform(heads, scale=3)
    module = SimpleNamespace(num_key_value_groups=heads // kv_heads, training=False, sinks=sinks, head_dim=width)
    distance = torch.arange(past, length)[:, None] - torch.arange(length)[None]

    def case(source, forward, window=None, **options):
        visible = (distance >= 0) & (distance < (window or length))
        mask = torch.where(visible, 0.0, float("-inf"))[None, None]
        out, _ = forward(module, q, keys, values, mask, scaling=0.3, **options)
        operands = options if forward is not gpt_oss.eager_attention_forward else {"sinks": sinks}
        operands = operands | ({} if window is None else {"window": window})
        shape = {"heads": heads, "kv_heads": kv_heads, "width": width, "past": past, "scale": 0.3}
        q_by_token = q.transpose(1, 2)
        record("attention", source, out, q=q_by_token, keys=keys, values=values, **shape, **operands)

    case("llama", llama.eager_attention_forward)
    case("llama, sliding window", llama.eager_attention_forward, window=4)
    case("gemma2", gemma2.eager_attention_forward, softcap=2.0)
    case("gemma2, sliding window", gemma2.eager_attention_forward, window=4, softcap=2.0)
    case("gpt_oss", gpt_oss.eager_attention_forward)
    case("gpt_oss, sliding window", gpt_oss.eager_attention_forward, window=4)


def routers():
    experts, chosen, width = 8, 3, 10
    config = SimpleNamespace(
        num_experts_per_tok=chosen,
        num_local_experts=experts,
        num_experts=experts,
        hidden_size=width,
        norm_topk_prob=True,
        n_group=1,
        topk_group=1,
        routed_scaling_factor=2.5,
    )
    unnormalized = SimpleNamespace(**vars(config) | {"norm_topk_prob": False})
    x = uniform(6, width)
    for op, source, router in [
        ("softmax_router", "MixtralTopKRouter", mixtral.MixtralTopKRouter(config)),
        ("softmax_router", "Qwen3MoeTopKRouter", qwen3_moe.Qwen3MoeTopKRouter(config)),
        ("unnormalized_router", "Qwen3MoeTopKRouter", qwen3_moe.Qwen3MoeTopKRouter(unnormalized)),
        ("logits_router", "GptOssTopKRouter", gpt_oss.GptOssTopKRouter(config)),
        ("sigmoid_router", "DeepseekV3TopkRouter", deepseek_v3.DeepseekV3TopkRouter(config)),
    ]:
        router = with_parameters(router)
        operands = {"weight": router.weight}
        if op == "logits_router":
            operands["bias"] = router.bias
        if op == "sigmoid_router":
            router.e_score_correction_bias.copy_(uniform(experts))
            operands |= {"correction": router.e_score_correction_bias, "factor": 2.5}
        _, scores, indices = router(x)
        # What each expert weighs: not every router gives its choices in order.
        weights = torch.zeros(len(x), experts).scatter(1, indices, scores)
        record(op, source, weights, x=x, width=width, k=chosen, **operands)


def experts():
    config = SimpleNamespace(
        num_local_experts=5, hidden_size=10, intermediate_size=6, hidden_act="silu", _experts_implementation="eager"
    )
    module = with_parameters(mixtral.MixtralExperts(config))
    x, weights = uniform(7, 10), uniform(7, 2).abs()
    choice = torch.stack([torch.randperm(4)[:2] for _ in range(7)])
    gate, up = module.gate_up_proj.chunk(2, dim=1)
    record(
        "experts",
        "MixtralExperts",
        module(x, choice, weights),
        x=x,
        choice=choice,
        weights=weights,
        gate=gate,
        up=up,
        down=module.down_proj,
        experts=5,
        width=10,
        inner=6,
    )


def main():
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    assert versions == VERSIONS, f"other versions: {versions}"
    torch.manual_seed(4)
    with torch.no_grad():
        for cases in [norms, activations, arithmetic, products, rotations, attention, routers, experts]:
            cases()
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in CASES)
    text = f'{{"versions":{json.dumps(VERSIONS)},"cases":[\n{lines}\n]}}\n'
    assert len(text) < LARGEST_FILE, f"{len(text)} bytes"
    Path(__file__).with_name("values.json").write_text(text)


if __name__ == "__main__":
    main()
