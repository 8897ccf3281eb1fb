//! The shipped library: specs and model definitions, as text inside the binary.
//!
//! A library name is the path below this folder without its extension: `keep` is `keep.lathe`. Adding a file means
//! adding its line here; a test compares the tables with the folder.

#![forbid(unsafe_code)]

/// One shipped text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Library name.
    pub name: &'static str,
    /// Path below this folder; its extension tells the syntax.
    pub path: &'static str,
    /// The text.
    pub text: &'static str,
}

impl Entry {
    /// The first sentence of the first comment.
    pub fn summary(&self) -> String {
        let comment = |line: &'static str| line.strip_prefix("//").or_else(|| line.strip_prefix('#')).map(str::trim);
        let comments = self.text.lines().map(comment).skip_while(Option::is_none);
        let text = comments.map_while(|line| line).collect::<Vec<_>>().join(" ");
        match text.split_once(". ") {
            Some((sentence, _)) => sentence.to_owned(),
            None => text.trim_end_matches('.').to_owned(),
        }
    }
}

macro_rules! entries {
    ($($name:literal => $path:literal),* $(,)?) => {
        &[$(Entry { name: $name, path: $path, text: include_str!(concat!("../", $path)) }),*]
    };
}

/// Quantization specs.
pub static SPECS: &[Entry] = entries! {
    "bf16" => "bf16.yaml",
    "f16" => "f16.lathe",
    "f32-rotated" => "f32-rotated.lathe",
    "gemma/w4-quarot" => "gemma/w4-quarot.lathe",
    "gemma/w4-table4" => "gemma/w4-table4.yaml",
    "gemma/w4-table8" => "gemma/w4-table8.lathe",
    "keep" => "keep.lathe",
    "llama/w4-down8" => "llama/w4-down8.yaml",
    "llama/w4-mix" => "llama/w4-mix.lathe",
    "llama/w4-quarot" => "llama/w4-quarot.lathe",
    "llama/w4-quarot-cache" => "llama/w4-quarot-cache.lathe",
    "llama/w4-spinquant" => "llama/w4-spinquant.yaml",
    "mixtral/experts4" => "mixtral/experts4.yaml",
    "mixtral/experts4-quarot" => "mixtral/experts4-quarot.yaml",
    "opt/w4" => "opt/w4.lathe",
    "opt/w4-quarot" => "opt/w4-quarot.yaml",
    "opt/w8" => "opt/w8.yaml",
    "phi/w4-quarot" => "phi/w4-quarot.lathe",
    "phi/w4-shards" => "phi/w4-shards.lathe",
    "qwen/moe-experts4" => "qwen/moe-experts4.lathe",
    "qwen/moe-experts4-rotated" => "qwen/moe-experts4-rotated.lathe",
    "qwen/w4-mix" => "qwen/w4-mix.yaml",
    "qwen/w4-quarot" => "qwen/w4-quarot.yaml",
    "w4-edges8" => "w4-edges8.lathe",
    "w4-head4" => "w4-head4.yaml",
    "w4-head4-split" => "w4-head4-split.lathe",
    "w4-small" => "w4-small.lathe",
    "w4-table4" => "w4-table4.yaml",
    "w4g128" => "w4g128.lathe",
    "w4g128-ends16" => "w4g128-ends16.yaml",
    "w4g32" => "w4g32.yaml",
    "w4g32-quarot" => "w4g32-quarot.yaml",
    "w8" => "w8.lathe",
    "w8-attention16" => "w8-attention16.yaml",
    "w8-head16" => "w8-head16.yaml",
    "w8-rotated" => "w8-rotated.lathe",
    "w8a8" => "w8a8.lathe",
    "w8a8-hadamard" => "w8a8-hadamard.lathe",
    "w8g64" => "w8g64.lathe",
};

/// Names of formats and rotations that specs `use`; these texts hold no spec.
pub static PARTS: &[Entry] = entries! {
    "parts/integers" => "parts/integers.lathe",
    "parts/rotations" => "parts/rotations.lathe",
};

/// Model definitions, one for each family of architectures.
pub static MODELS: &[Entry] = entries! {
    "cohere2" => "models/cohere2.lathe",
    "falcon" => "models/falcon.lathe",
    "gemma" => "models/gemma.lathe",
    "gemma2" => "models/gemma2.lathe",
    "gemma3_text" => "models/gemma3_text.lathe",
    "glm" => "models/glm.lathe",
    "glm4" => "models/glm4.lathe",
    "gpt2" => "models/gpt2.lathe",
    "gpt_bigcode" => "models/gpt_bigcode.lathe",
    "gpt_neox" => "models/gpt_neox.lathe",
    "gpt_oss" => "models/gpt_oss.lathe",
    "gptj" => "models/gptj.lathe",
    "granitemoe" => "models/granitemoe.lathe",
    "llama" => "models/llama.lathe",
    "mistral" => "models/mistral.lathe",
    "mixtral" => "models/mixtral.lathe",
    "olmo" => "models/olmo.lathe",
    "olmo2" => "models/olmo2.lathe",
    "olmo3" => "models/olmo3.lathe",
    "olmoe" => "models/olmoe.lathe",
    "opt" => "models/opt.lathe",
    "phi" => "models/phi.lathe",
    "phi3" => "models/phi3.lathe",
    "qwen2" => "models/qwen2.lathe",
    "qwen2_moe" => "models/qwen2_moe.lathe",
    "qwen3" => "models/qwen3.lathe",
    "qwen3_moe" => "models/qwen3_moe.lathe",
    "smollm3" => "models/smollm3.lathe",
    "stablelm" => "models/stablelm.lathe",
    "starcoder2" => "models/starcoder2.lathe",
};

/// Keys of config.json that describe training, generation or bookkeeping, and never the function that a model computes:
/// a definition without architectures, whose `ignore config` holds for every model.
pub static BOOKKEEPING: Entry =
    Entry { name: "bookkeeping", path: "models/bookkeeping.lathe", text: include_str!("../models/bookkeeping.lathe") };

/// The shipped spec of this name.
pub fn spec(name: &str) -> Option<&'static Entry> {
    SPECS.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn walk(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "src") {
                    walk(&path, root, found);
                }
            } else if path.extension().is_some_and(|e| e == "lathe" || e == "yaml") {
                let relative = path.strip_prefix(root).unwrap();
                found.insert(relative.to_str().unwrap().replace('\\', "/"));
            }
        }
    }

    #[test]
    fn tables_hold_every_file_and_names_are_unique() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        walk(root, root, &mut found);
        let all: Vec<Entry> = SPECS.iter().chain(PARTS).chain(MODELS).copied().chain([BOOKKEEPING]).collect();
        let listed: BTreeSet<String> = all.iter().map(|entry| entry.path.to_string()).collect();
        assert_eq!(listed, found);
        for table in [SPECS, MODELS] {
            let names: BTreeSet<&str> = table.iter().map(|entry| entry.name).collect();
            assert_eq!(names.len(), table.len());
        }
        for entry in SPECS.iter().chain(PARTS) {
            assert_eq!(entry.path.rsplit_once('.').unwrap().0, entry.name);
        }
    }

    #[test]
    fn specs_say_in_one_line_what_they_are_for() {
        for entry in SPECS {
            let summary = entry.summary();
            assert!((20..120).contains(&summary.chars().count()), "{}: {summary}", entry.name);
        }
        let entry = |text| Entry { name: "a", path: "a.yaml", text };
        assert_eq!(entry("# One\n# line. And more.\n# Not this\nlathe: 1\n# nor this").summary(), "One line");
        assert_eq!(entry("lathe 1\n\n// 4.5 bits.\nspec a {\n}\n// Not this\n").summary(), "4.5 bits");
        assert_eq!(entry("lathe 1\n").summary(), "");
    }
}
