//! Heads, attention over a cache, and the choice of a token.

use lathe_kernels::cuda::ops::{
    Angles, AttentionStep, DeviceCache, DeviceRotation, HeadPart, HeadTarget, Outputs, SAMPLE_SCRATCH_BYTES, SampleStep,
};
use lathe_kernels::cuda::{CudaError, Gpu, Memory, Slice};
use lathe_kernels::ops::{AttentionShape, Pairing};
use lathe_kernels::rotations::Rotation;

use super::ceilings::random_words;
use super::measure::{Bench, Case, Floor, Sizes};
use super::products::random_floats;

/// Times them.
pub(crate) fn measure(bench: &mut Bench<'_>) {
    let [one, some, _, prompt] = bench.sizes.rows;
    for context in bench.sizes.contexts {
        if bench.wants("attention") {
            attention(bench, 1, context);
        }
    }
    if bench.wants("attention") {
        attention(bench, prompt, prompt);
    }
    for tokens in [one, some, prompt] {
        if bench.wants("heads") {
            heads(bench, tokens);
        }
    }
    if bench.wants("sample") {
        sample(bench);
    }
}

/// A cache whose keys and values are random.
fn random_cache(gpu: &Gpu, sizes: &Sizes, capacity: usize) -> Result<DeviceCache, CudaError> {
    let cache = DeviceCache::new(gpu, sizes.kv_heads, sizes.head_dim, capacity, true)?;
    for half in [cache.keys(), cache.values()] {
        // Within ±1: the sign, exponents below that of 1, and what the fraction is.
        let words = random_words(gpu, half.len())?;
        let mut values = gpu.to_vec::<u32>(words.slice())?;
        for value in &mut values {
            *value = *value & 0xbfff_bfff | 0x3c00_3c00;
        }
        gpu.write(half.cast(), &values)?;
    }
    Ok(cache)
}

/// Of the last `tokens` of `context` positions.
fn attention(bench: &mut Bench<'_>, tokens: usize, context: usize) {
    let sizes = bench.sizes;
    let Sizes { heads, kv_heads, head_dim, .. } = *sizes;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let shape = AttentionShape { heads, kv_heads, head_dim, scale, window: None, softcap: None };
    let cache_bytes = 2 * kv_heads * context * head_dim * 2;
    let copies = bench.copies(cache_bytes);
    let width = heads * head_dim;
    let prepared = bench.prepare("attention", |gpu| {
        let caches = (0..copies).map(|_| random_cache(gpu, sizes, context)).collect::<Result<Vec<_>, _>>()?;
        let q = random_floats(gpu, tokens * width)?;
        let position = gpu.upload("a benchmark", &[(context - tokens) as u32])?;
        let scratch_bytes = 4 * gpu.attention_scratch(&shape, context, tokens) as u64;
        let scratch = gpu.allocate("a benchmark", scratch_bytes)?;
        gpu.fill(scratch.slice::<u8>(), 0)?;
        let out = gpu.allocate("a benchmark", 2 * (tokens * width) as u64)?;
        Ok((caches, q, position, scratch, out))
    });
    let Some((caches, q, position, scratch, out)) = prepared else { return };
    let visible: usize = (context - tokens + 1..=context).sum();
    let moved = (cache_bytes + 6 * tokens * width) as f64;
    let case = Case {
        kernel: "attention",
        format: "bf16".to_owned(),
        shape: format!("context {context}"),
        rows: tokens,
        floor: Floor::Bf16(moved, 4.0 * (width * visible) as f64),
    };
    bench.case(&case, copies, |gpu, copy| {
        gpu.attention(&AttentionStep {
            shape,
            q: q.slice(),
            cache: &caches[copy],
            sinks: Slice::NONE,
            tokens,
            position: position.slice(),
            scratch: scratch.slice(),
            out: Outputs { bf16: out.slice(), ..Outputs::NONE },
        })
    });
}

/// Queries, keys and values of `tokens`: turned, rotated (R3), and stored.
fn heads(bench: &mut Bench<'_>, tokens: usize) {
    let sizes = bench.sizes;
    let Sizes { heads, kv_heads, head_dim, .. } = *sizes;
    let width = (heads + 2 * kv_heads) * head_dim;
    // A part each, and f32 that are read and written, and bf16 that are written.
    let moved = tokens * head_dim * (8 * heads + 12 * kv_heads);
    let copies = bench.copies(moved);
    let prepared = bench.prepare("heads", |gpu| {
        let x = (0..copies).map(|_| random_floats(gpu, tokens * width)).collect::<Result<Vec<_>, _>>()?;
        let cache = |_| DeviceCache::new(gpu, kv_heads, head_dim, tokens, true);
        let caches = (0..copies).map(cache).collect::<Result<Vec<_>, _>>()?;
        let rotation = Rotation::hadamard(head_dim).expect("a Hadamard matrix of the width of a head");
        let rotation = DeviceRotation::upload(gpu, &rotation)?;
        let table = random_floats(gpu, tokens * head_dim)?;
        let position = gpu.upload("a benchmark", &[0_u32])?;
        Ok((x, caches, rotation, table, position))
    });
    let Some((x, caches, rotation, table, position)) = prepared else { return };
    let angles = Angles { table: table.slice(), pairs: head_dim / 2, pairing: Pairing::Half };
    for (format, rotation) in [("rope", None), ("rope, rotated", Some((&rotation, false)))] {
        let floor = Floor::Copy(moved as f64);
        let case =
            Case { kernel: "heads", format: format.to_owned(), shape: format!("{head_dim}"), rows: tokens, floor };
        bench.case(&case, copies, |gpu, copy| {
            let all = x[copy].slice::<f32>();
            let (q_len, kv_len) = (tokens * heads * head_dim, tokens * kv_heads * head_dim);
            let q = all.range(0..q_len);
            let k = all.range(q_len..q_len + kv_len);
            let v = all.range(q_len + kv_len..q_len + 2 * kv_len);
            let part = |x, heads, angles, rotation, to| HeadPart { x, heads, norm: None, angles, rotation, to };
            let parts = [
                part(q, heads, Some(angles), rotation, HeadTarget::Buffer(q)),
                part(k, kv_heads, Some(angles), rotation, HeadTarget::Keys(&caches[copy])),
                part(v, kv_heads, None, None, HeadTarget::Values(&caches[copy])),
            ];
            gpu.heads(&parts, tokens, head_dim, position.slice())
        });
    }
}

fn sample(bench: &mut Bench<'_>) {
    let vocabulary = bench.sizes.vocabulary;
    let copies = bench.copies(4 * vocabulary);
    let prepared = bench.prepare("sample", |gpu| {
        let logits = (0..copies).map(|_| random_floats(gpu, vocabulary)).collect::<Result<Vec<Memory>, _>>()?;
        let uniform = gpu.upload("a benchmark", &[0.5_f64.to_bits()])?;
        let token = gpu.allocate("a benchmark", 4)?;
        let scratch = gpu.allocate("a benchmark", SAMPLE_SCRATCH_BYTES as u64)?;
        gpu.fill(scratch.slice::<u8>(), 0)?;
        Ok((logits, uniform, token, scratch))
    });
    let Some((logits, uniform, token, scratch)) = prepared else { return };
    for (format, temperature, top_k, top_p) in
        [("greedy", 0.0, None, None), ("temperature", 0.8, None, None), ("top-k, top-p", 0.8, Some(50), Some(0.9))]
    {
        let floor = Floor::Read(4.0 * vocabulary as f64);
        let shape = format!("{vocabulary}");
        let case = Case { kernel: "sample", format: format.to_owned(), shape, rows: 1, floor };
        bench.case(&case, copies, |gpu, copy| {
            gpu.sample(&SampleStep {
                logits: logits[copy].slice(),
                temperature,
                top_k,
                top_p,
                uniform: uniform.slice(),
                token: token.slice(),
                scratch: scratch.slice(),
            })
        });
    }
}
