//! Every diagnostic code with its long explanation: one table.
//!
//! First letter: `A` compiled models, `P` text that does not parse, `S` specs, `M` model definitions, `C` checkpoints.

/// A code and what it means.
#[derive(Debug, Clone, Copy)]
pub struct Code {
    /// As shown: `S0101`.
    pub code: &'static str,
    /// One line.
    pub title: &'static str,
    /// A paragraph or more: what happened, why it is refused, how to mend it.
    pub explanation: &'static str,
}

/// All codes, ordered.
pub static CODES: &[Code] = &[
    Code {
        code: "A0001",
        title: "a compiled model that is not valid",
        explanation: "program.json is not a program of the version that this binary reads, or one that breaks an \
            invariant. The folder was damaged or edited, or is of another version: compile the checkpoint again.",
    },
    Code {
        code: "C0001",
        title: "the checkpoint folder cannot be read",
        explanation: "A checkpoint is a folder with config.json and either model.safetensors or \
            model.safetensors.index.json with the shards that it names. The message says which file could not be \
            opened, and the operating system's reason.",
    },
    Code {
        code: "C0002",
        title: "a JSON file of the checkpoint is malformed",
        explanation: "config.json, the shard index or the header of a safetensors file is not the JSON that it must \
            be. The file was probably cut short while it was downloaded.",
    },
    Code {
        code: "C0003",
        title: "a safetensors file is cut short or its header lies",
        explanation: "The header of a safetensors file states for each tensor a dtype, a shape and a range of bytes. \
            Ranges must lie inside the file, must not overlap or leave holes, and must be as long as dtype and shape \
            say. A file that breaks this was damaged, or written by a tool with a bug; nothing in it can be trusted.",
    },
    Code {
        code: "C0004",
        title: "a tensor is missing",
        explanation: "The model definition declares a module whose tensor the checkpoint does not hold. Either the \
            checkpoint is incomplete (a shard is missing), or the definition does not describe this model.",
    },
    Code {
        code: "C0005",
        title: "a tensor has another shape than the definition says",
        explanation: "The shape that follows from the definition and config.json differs from the shape in the \
            checkpoint. The message shows both, and the values of config.json that went into the expected one.",
    },
    Code {
        code: "C0006",
        title: "a stored tensor is claimed by no module",
        explanation: "Every element of every stored tensor must be read by exactly one module or be ignored by name. \
            A tensor that nobody reads is a part of the model that the output would silently lack. Add a module to \
            the definition, or `ignore tensors \"NAME\"` when it is known to be dead.",
    },
    Code {
        code: "C0007",
        title: "a stored tensor is claimed twice",
        explanation: "Two modules of the definition read the same elements of one stored tensor without being tied.",
    },
    Code {
        code: "C0008",
        title: "a weight is not finite",
        explanation: "A tensor holds NaN or an infinity. Such a checkpoint cannot be quantized or proven equal to \
            anything; it is usually a broken download or a diverged training run.",
    },
    Code {
        code: "C0009",
        title: "a dtype that cannot be read",
        explanation: "Weights may be stored as F32, F16 or BF16. Other dtypes belong to checkpoints that are already \
            quantized, which this version does not read.",
    },
    Code {
        code: "C0010",
        title: "keys of config.json that nobody reads",
        explanation: "Each key of config.json must be read by the definition or be ignored by name: a key that nobody \
            reads may be a feature that the output lacks. Keys whose value is null, false or empty need no entry.",
    },
    Code {
        code: "C0011",
        title: "the config says that the head is tied, but the stored tables differ",
        explanation: "config.json has tie_word_embeddings, and yet the checkpoint stores a head and an embedding that \
            differ. Both are kept, as the checkpoint's own values are the better witness.",
    },
    Code {
        code: "C0012",
        title: "no model definition for this architecture",
        explanation: "config.json names an architecture that no shipped definition lists. Write one (it is data, not \
            code) and pass it with --model-def, or check `lathe list models`.",
    },
    Code {
        code: "C0013",
        title: "a checkpoint that is already quantized",
        explanation: "config.json has a quantization_config: the tensors hold codes of a format instead of numbers. \
            This version reads F32, F16 and BF16 checkpoints only.",
    },
    Code {
        code: "M0001",
        title: "an unknown name in a definition",
        explanation: "An expression uses a name that is neither a `let`, a loop variable, a module nor a function.",
    },
    Code {
        code: "M0002",
        title: "a value of the wrong type in a definition",
        explanation: "An operator, a constructor or a function was given a value that it cannot take.",
    },
    Code {
        code: "M0003",
        title: "a key that config.json does not have",
        explanation: "The definition reads a key that is missing and gives no other value for that case. Write \
            `config.KEY or VALUE` when there is a sensible one; it is taken for a key that is null, too.",
    },
    Code {
        code: "M0004",
        title: "an assertion of the definition does not hold",
        explanation: "A definition states with `assert` what it was written for. This checkpoint is something else.",
    },
    Code {
        code: "M0005",
        title: "shapes that do not fit together",
        explanation: "An operation of the graph was given activations whose shapes do not fit. The message names both.",
    },
    Code {
        code: "M0006",
        title: "a declaration that is doubled or missing",
        explanation: "A module, a `let` or the graph was declared twice, or a part that every definition needs is \
            absent.",
    },
    Code {
        code: "M0007",
        title: "arguments that do not fit the function",
        explanation: "A constructor or function was called with too many arguments, too few, or with a name that it \
            does not have.",
    },
    Code {
        code: "M0008",
        title: "a part of the language that this version cannot build",
        explanation: "The definition asks for something that the language has but this version of the compiler \
            cannot build. It is refused here, as ignoring it would give a wrong model.",
    },
    Code {
        code: "M0009",
        title: "a definition that evaluates to too much",
        explanation: "A definition may declare at most a million modules and graph operations. A larger count is a \
            mistake in a `repeat` or in config.json.",
    },
    Code {
        code: "M0010",
        title: "a module that the graph never uses",
        explanation: "The definition declares a module, and the output does not depend on it. Its tensors would be \
            claimed and then dropped, so the compiled model would silently lack a part. Use the module in the graph, \
            or, when its tensors are known to be dead, drop it and write `ignore tensors \"NAME\"`.",
    },
    Code {
        code: "P0001",
        title: "text that does not parse",
        explanation: "The text is not in the Lathe language. The message says what could have stood at this place.",
    },
    Code {
        code: "P0002",
        title: "the version line is missing or names a version that this compiler does not know",
        explanation: "The first item of every file is `lathe 1`: the version of the language that it is written in.",
    },
    Code {
        code: "S0001",
        title: "a spec or model of this name does not exist",
        explanation: "A name on the command line is a file, or the path of a shipped spec without its extension. \
            `lathe list specs` shows those.",
    },
    Code {
        code: "S0101",
        title: "a pattern that matches nothing",
        explanation: "A rule that matches no module of the model is almost always a typing error, and the modules it \
            was meant for would silently be left as they are. Mark the rule `optional` when it is meant for several \
            models.",
    },
    Code {
        code: "S0102",
        title: "a pattern that is malformed",
        explanation: "Patterns are whole segments of a module path separated by dots, with `*`, `**`, `{a,b}`, \
            `[0..4]`, `:kind`.",
    },
    Code {
        code: "S0103",
        title: "a rule that decides nothing",
        explanation: "The last rule that matches a module decides. Every module that this rule matches is decided by \
            a later one, so it has no effect: usually the order is wrong.",
    },
    Code {
        code: "S0201",
        title: "an unknown format",
        explanation: "The name after `=>` is not a format. This version builds one: `keep`, the dtype that the checkpoint stores.",
    },
    Code {
        code: "S0202",
        title: "a part of the language that this version cannot build",
        explanation: "The spec asks for something that the language has but this version of the compiler cannot \
            build. It is refused here, as ignoring it would give another model than the one asked for.",
    },
];

/// The entry of a code.
pub fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|entry| entry.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_unique() {
        assert!(CODES.windows(2).all(|pair| pair[0].code < pair[1].code));
    }
}
