//! Words of other tools and what is written for them here: the help of diagnostics for those who come from there.

use lathe_grammar::diag::nearest;

/// The nearest of `candidates`; another case is no difference.
pub(super) fn near<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lowercase = name.to_lowercase();
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let same = candidates.iter().copied().find(|candidate| *candidate == lowercase && *candidate != name);
    same.or_else(|| nearest(&lowercase, candidates))
}

/// Names of formats, and what to write.
const FORMATS: &[(&[&str], &str)] = &[
    (&["bfloat16"], "bf16"),
    (&["fp16", "float16", "half"], "f16"),
    (&["fp32", "float32", "float", "full"], "f32"),
    (&["fp8", "float8", "f8", "e4m3", "fp8_e4m3fn", "float8_e4m3", "float8_e4m3fn"], "fp8_e4m3"),
    (&["e5m2", "float8_e5m2"], "fp8_e5m2"),
    (&["bnb4", "bnb", "bitsandbytes"], "nf4(group: 64)"),
    (&["none", "skip", "default", "ignore", "original", "unquantized"], "keep"),
    (&["rtn", "absmax"], "int4(group: 128)"),
];

/// How scales are chosen, which is an argument of a format.
const FITS: &[&str] = &["mse", "hqq", "gptq", "awq", "smoothquant"];

/// What to write for a format of another tool.
pub(super) fn format(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    if let Some((_, here)) = FORMATS.iter().find(|(names, _)| names.contains(&name.as_str())) {
        return Some(format!("write `{here}`"));
    }
    if FITS.contains(&name.as_str()) {
        return Some(format!("it is a way to choose scales: write `int4(group: 128, fit: {name})`"));
    }
    if name == "fp4" {
        return Some("write `mxfp4` or `nvfp4`".into());
    }
    if let Some((weights, activations)) = weights_and_activations(&name) {
        let format = integers(weights, "channel")?;
        let input = match activations {
            16 | 32 => String::new(),
            bits => format!(" with input {}", integers(bits, "token")?),
        };
        return Some(format!("write `{format}{input}`"));
    }
    let (bits, _) = name.strip_prefix("iq").or_else(|| name.strip_prefix('q'))?.split_once('_')?;
    let bits: u32 = bits.parse().ok().filter(|bits| (2..=8).contains(bits))?;
    Some(format!("it is a format of llama.cpp; near it is `int{bits}(group: 32)`"))
}

/// `w4a16`: bits of weights and of activations.
fn weights_and_activations(name: &str) -> Option<(u32, u32)> {
    let (weights, rest) = name.strip_prefix('w')?.split_once('a')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((weights.parse().ok()?, rest[..digits].parse().ok()?))
}

fn integers(bits: u32, per: &str) -> Option<String> {
    match bits {
        16 => Some("keep".into()),
        2..=7 if per == "channel" => Some(format!("int{bits}(group: 128)")),
        2..=8 => Some(format!("int{bits}(per: {per})")),
        _ => None,
    }
}

/// Names of arguments, and the parameters that they may be, the likelier first.
const PARAMETERS: &[(&[&str], &[&str])] = &[
    (&["group_size", "groupsize", "q_group_size", "block_size", "blocksize", "size", "g", "gs"], &["group", "block"]),
    (&["dim", "width"], &["block"]),
    (&["sym"], &["symmetric"]),
    (&["method", "algorithm", "algo", "observer", "quant_method", "calibration"], &["fit"]),
    (&["granularity", "strategy", "axis", "scheme"], &["per"]),
    (&["sparsity"], &["sparse"]),
    (&["random_state", "random_seed"], &["seed"]),
    (&["path", "filename"], &["file"]),
    (&["tensor", "name"], &["key"]),
    (&["migration_strength", "smoothing_strength"], &["alpha"]),
];

/// What to write for an argument of another tool; `takes` are the parameters that there are.
pub(super) fn argument(name: &str, takes: &[&str]) -> Option<String> {
    let name = name.to_lowercase();
    let here = match name.as_str() {
        "bits" | "num_bits" | "nbits" | "wbits" | "w_bit" | "bit" => {
            return Some("the bits are part of the name of a format, as in `int4` and `int8`".into());
        }
        "asym" | "asymmetric" | "zero_point" | "zero_points" | "zp" => ("symmetric", "symmetric: false"),
        "per_channel" | "channelwise" | "channel_wise" => ("per", "per: channel"),
        "per_token" => ("per", "per: token"),
        "per_tensor" => ("per", "per: tensor"),
        "dynamic" => ("scale", "scale: dynamic"),
        "static" => ("scale", "scale: static"),
        _ => {
            let (_, meant) = PARAMETERS.iter().find(|(names, _)| names.contains(&name.as_str()))?;
            let parameter = meant.iter().find(|parameter| takes.contains(*parameter))?;
            return Some(format!("did you mean `{parameter}`?"));
        }
    };
    takes.contains(&here.0).then(|| format!("write `{}`", here.1))
}

/// What to write for a word of another tool as the value of a parameter.
pub(super) fn word(parameter: &str, word: &str) -> Option<&'static str> {
    Some(match (parameter, word.to_lowercase().as_str()) {
        ("per", "group") => "group: 128",
        ("per", "block") => "block: [128, 128]",
        ("per", "row" | "output" | "channelwise" | "channel_wise" | "per_channel") => "per: channel",
        ("per", "tensorwise" | "per_tensor" | "layer") => "per: tensor",
        ("per", "per_token") => "per: token",
        ("fit", "rtn" | "minmax" | "max") => "fit: absmax",
        _ => return None,
    })
}

/// What to write for a rotation of another tool.
pub(super) fn rotation(name: &str) -> Option<&'static str> {
    Some(match name.to_lowercase().as_str() {
        "random" | "quarot" | "quip" => "random_hadamard(seed: 7)",
        "spinquant" | "learned" => "matrix(\"rotation.safetensors\")",
        "keep" | "off" => "none",
        "random_orthogonal" | "haar" => "orthogonal(seed: 7)",
        "smoothquant" => "smooth(alpha: 0.5)",
        _ => return None,
    })
}

/// What to write for a site that is called in another way.
pub(super) fn site(name: &str) -> Option<String> {
    Some(match name.to_lowercase().as_str() {
        "q" | "k" | "qk" | "query" | "key" => "did you mean `query_key`?".into(),
        "v" | "values" => "did you mean `value`?".into(),
        "ffn" | "mlp" | "hidden" => "did you mean `ffn_hidden`?".into(),
        "stream" | "hidden_states" => "did you mean `residual`?".into(),
        module if module.ends_with("_proj") || module == "lm_head" => format!("write `input of {module} by …`"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{FormatKind, RotationKind};

    fn written(help: &str) -> &str {
        help.split('`').nth(1).unwrap_or_else(|| panic!("{help} quotes nothing"))
    }

    #[test]
    fn what_is_proposed_exists() {
        let names = FORMATS.iter().flat_map(|(names, _)| names.iter()).chain(FITS);
        for name in names.chain(&["fp4", "w4a16", "W8A8", "w16a16", "q4_k", "Q8_0", "IQ2_XS"]) {
            let help = format(name).unwrap_or_else(|| panic!("no help for {name}"));
            let format = written(&help).split(['(', ' ']).next().unwrap();
            assert!(FormatKind::find(format).is_some(), "{name}: {help}");
            assert!(FormatKind::find(name).is_none(), "{name} is a format here");
        }
        for name in ["random", "off", "spinquant", "random_orthogonal", "smoothquant"] {
            let here = rotation(name).unwrap().split('(').next().unwrap();
            assert!(RotationKind::find(here).is_some() && RotationKind::find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn bits_of_weights_and_activations() {
        assert_eq!(format("W4A16").as_deref(), Some("write `int4(group: 128)`"));
        assert_eq!(format("w8a8_int").as_deref(), Some("write `int8(per: channel) with input int8(per: token)`"));
        for stranger in ["w", "wa", "w4", "w9a9", "q", "q_", "q99_k", "warm"] {
            assert_eq!(format(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn another_case_is_the_same_word() {
        assert_eq!(near("INT8", ["int4", "int8"]), Some("int8"));
        assert_eq!(near("Int44", ["int8", "int4"]), Some("int4"));
        assert_eq!(near("int8", ["int8"]), None);
    }
}
