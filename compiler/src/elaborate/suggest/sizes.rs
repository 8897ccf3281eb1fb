//! Numbers of a checkpoint as the keys of config.json that they probably come from.

use std::collections::BTreeMap;

use crate::model::Config;

/// Words in the names of keys, by what such a key counts.
const WIDTHS: [&str; 9] = ["size", "dim", "width", "d_model", "embd", "inner", "ffn", "rank", "channels"];
const NO_WIDTHS: [&str; 9] =
    ["vocab", "position", "window", "chunk", "batch", "image", "per_tok", "num_experts_per", "block_size"];
const FEED_FORWARDS: [&str; 5] = ["intermediate", "ffn", "inner", "expert", "mlp"];
const VOCABULARIES: [&str; 1] = ["vocab_size"];
const POSITIONS: [&str; 4] = ["position", "n_ctx", "max_seq", "context"];
const LAYERS: [&str; 4] = ["layer", "block", "depth", "num_blocks"];
const EXPERTS: [&str; 1] = ["expert"];

/// Largest whole number by which a key may be multiplied: three for q, k and v in one tensor, four for a feed-forward.
const MAX_MULTIPLE: i64 = 4;

/// A number and an expression for it.
type Named = (i64, String);

/// What a width belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Attention: widths are those of heads, and none of a feed-forward.
    Attention,
    /// Anything else: widths have nothing to do with heads.
    Other,
}

impl Place {
    pub(super) fn of(path: &str) -> Self {
        if path.contains("attn") || path.contains("attention") { Place::Attention } else { Place::Other }
    }
}

/// Every whole number of config.json by what it may count.
pub(super) struct Sizes {
    /// In the order in which they are tried: keys, heads times their width, multiples of keys.
    widths: [Vec<Named>; 3],
    vocabularies: Vec<Named>,
    positions: Vec<Named>,
    layers: Vec<Named>,
    heads: Vec<Named>,
    experts: Vec<Named>,
    epsilons: Vec<String>,
}

impl Sizes {
    pub(super) fn new(config: &Config) -> Self {
        let mut numbers: BTreeMap<String, i64> = BTreeMap::new();
        let mut epsilons = Vec::new();
        for (path, value) in config.leaves() {
            let is_name = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !path.split('.').all(is_name) {
                continue;
            }
            if let Some(number) = value.as_i64().filter(|number| *number > 0) {
                numbers.insert(path, number);
            } else if path.contains("eps") && value.is_f64() {
                epsilons.push(path);
            }
        }
        let with = |words: &[&str], without: &[&str]| -> Vec<Named> {
            let has = |key: &str, words: &[&str]| words.iter().any(|word| key.contains(word));
            let chosen = numbers.iter().filter(|(key, _)| has(key, words) && !has(key, without));
            chosen.map(|(key, number)| (*number, format!("config.{key}"))).collect()
        };
        let heads = with(&["head"], &["dim", "size"]);
        let keys = with(&WIDTHS, &NO_WIDTHS);
        let multiples = keys.iter().filter(|(_, key)| !key.contains("head")).flat_map(|(number, key)| {
            (2..=MAX_MULTIPLE).filter_map(move |by| Some((number.checked_mul(by)?, format!("{by} * {key}"))))
        });
        let multiples = multiples.collect();
        Sizes {
            widths: [keys, of_heads(&heads, &numbers), multiples],
            heads,
            vocabularies: with(&VOCABULARIES, &[]),
            positions: with(&POSITIONS, &[]),
            layers: with(&LAYERS, &["size", "dim"]),
            experts: with(&EXPERTS, &["per_tok", "size", "dim", "shared"]),
            epsilons,
        }
    }

    /// The width of an activation.
    pub(super) fn width(&self, width: u64, place: Place) -> String {
        let [keys, heads, multiples] = &self.widths;
        let fits = |(_, text): &&Named| place == Place::Other || !FEED_FORWARDS.iter().any(|word| text.contains(word));
        let keys: Vec<Named> = keys.iter().filter(fits).cloned().collect();
        let heads = if place == Place::Attention { &heads[..] } else { &[] };
        let tiers = [&keys[..], heads, &multiples[..]];
        let found = tiers.into_iter().find(|tier| tier.iter().any(|(number, _)| is(*number, width)));
        found.and_then(|tier| only(tier, width)).unwrap_or_else(|| width.to_string())
    }

    /// The number of heads or experts, or else a width.
    pub(super) fn heads(&self, count: u64, place: Place) -> String {
        let heads = if place == Place::Attention { only(&self.heads, count) } else { self.experts(count) };
        heads.unwrap_or_else(|| self.width(count, place))
    }

    /// The number of tokens that an embedding knows, if a key says so.
    pub(super) fn vocabulary(&self, rows: u64) -> Option<String> {
        only(&self.vocabularies, rows)
    }

    /// The number of positions that an embedding knows.
    pub(super) fn positions(&self, rows: u64) -> String {
        only(&self.positions, rows).unwrap_or_else(|| rows.to_string())
    }

    /// The number of experts, if a key says so.
    pub(super) fn experts(&self, count: u64) -> Option<String> {
        only(&self.experts, count)
    }

    /// The number of layers, if a key says so.
    pub(super) fn layers(&self, count: u64) -> Option<String> {
        only(&self.layers, count)
    }

    /// Whether the keys speak of LayerNorm, and of no RMSNorm.
    pub(super) fn norms_are_centred(&self) -> bool {
        let has = |word: &str| self.epsilons.iter().any(|key| key.contains(word));
        has("layer_norm") && !has("rms")
    }

    /// The epsilon of a norm; `prefer` is a word in the name of the key.
    pub(super) fn epsilon(&self, prefer: &str) -> String {
        let preferred: Vec<&String> = self.epsilons.iter().filter(|key| key.contains(prefer)).collect();
        match (&preferred[..], &self.epsilons[..]) {
            ([key], _) => format!("config.{key}"),
            (_, [key]) => format!("config.{key}"),
            _ => "1e-5".to_owned(),
        }
    }
}

/// Widths of some heads, and of one where no key says it.
fn of_heads(heads: &[Named], numbers: &BTreeMap<String, i64>) -> Vec<Named> {
    let key = |word: &str| numbers.iter().find(|(key, _)| key.contains(word));
    let most = heads.iter().max_by_key(|(number, _)| *number);
    let (width, text) = match (key("head_dim"), key("hidden_size").or_else(|| key("n_embd")), most) {
        (Some((key, width)), _, _) => (*width, format!("config.{key}")),
        (None, Some((key, width)), Some((count, heads))) if width % count == 0 => {
            (width / count, format!("config.{key} / {heads}"))
        }
        _ => return Vec::new(),
    };
    let product = |(count, heads): &Named| {
        let text = if text.contains('/') { format!("{heads} * ({text})") } else { format!("{heads} * {text}") };
        Some((count.checked_mul(width)?, text))
    };
    heads.iter().filter_map(product).chain([(width, text.clone())]).collect()
}

fn is(number: i64, size: u64) -> bool {
    u64::try_from(number) == Ok(size)
}

/// The expression for this number when there is exactly one, or one that is not within another object of the config.
fn only(named: &[Named], size: u64) -> Option<String> {
    let found = || named.iter().filter(|(number, _)| is(*number, size)).map(|(_, text)| text);
    let is_nested = |text: &&String| text.split(' ').any(|word| word.matches('.').count() > 1);
    let one = |mut texts: Box<dyn Iterator<Item = &String> + '_>| match (texts.next(), texts.next()) {
        (Some(text), None) => Some(text.clone()),
        _ => None,
    };
    one(Box::new(found())).or_else(|| one(Box::new(found().filter(|text| !is_nested(text)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(config: serde_json::Value) -> Sizes {
        Sizes::new(&Config::new("config.json".into(), config))
    }

    #[test]
    fn one_plausible_key_is_named_and_of_two_none() {
        let sizes = sizes(serde_json::json!({
            "hidden_size": 48, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 16, "num_hidden_layers": 3, "bos_token_id": 3, "moe": {"ffn_dim": 20}, "vocab_size": 96,
        }));
        assert_eq!(sizes.width(48, Place::Other), "48");
        assert_eq!(sizes.width(48, Place::Attention), "config.hidden_size");
        assert_eq!(sizes.width(32, Place::Attention), "config.num_key_value_heads * config.head_dim");
        assert_eq!(sizes.width(32, Place::Other), "32");
        assert_eq!(sizes.width(20, Place::Other), "config.moe.ffn_dim");
        assert_eq!(sizes.width(40, Place::Other), "2 * config.moe.ffn_dim");
        assert_eq!(sizes.width(7, Place::Other), "7");
        assert_eq!(sizes.heads(4, Place::Attention), "config.num_attention_heads");
        assert_eq!(sizes.layers(3).as_deref(), Some("config.num_hidden_layers"));
        assert_eq!(sizes.layers(4), None);
        assert_eq!(sizes.vocabulary(96).as_deref(), Some("config.vocab_size"));
        assert_eq!(sizes.vocabulary(48), None);
    }

    #[test]
    fn heads_without_a_width_share_the_hidden_size() {
        let sizes = sizes(serde_json::json!({
            "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6
        }));
        assert_eq!(sizes.width(8, Place::Attention), "config.hidden_size / config.num_attention_heads");
        assert_eq!(
            sizes.width(16, Place::Attention),
            "config.num_key_value_heads * (config.hidden_size / config.num_attention_heads)"
        );
        assert_eq!(sizes.epsilon("rms"), "config.rms_norm_eps");
        assert_eq!(sizes.epsilon("layer"), "config.rms_norm_eps");
    }
}
