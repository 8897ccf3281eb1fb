//! Every diagnostic code with its long explanation: one table.
//!
//! First letter: `A` compiled models, `C` checkpoints, `F` files that are formatted or converted, `M` model definitions,
//! `P` text that does not parse, `S` specs.

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
            invariant; or a report is asked for, and report.json or lathe.lock is not what this version writes. The \
            folder was damaged or edited, or is of another version: compile the checkpoint again.",
    },
    Code {
        code: "A0002",
        title: "a verification that cannot be shown",
        explanation: "`lathe report --verify` takes the file that `lathe verify OUT CHECKPOINT --json` has written \
            about the same compiled model. This one is something else, is of another version, states a number \
            that cannot be, or is about another compilation, of which the lock file tells: verify the model again.",
    },
    Code {
        code: "A0003",
        title: "a compiled model and a checkpoint that do not belong together",
        explanation: "The compiled model was made from another checkpoint, from another version of it, or with another \
            model definition: a weight has another name, another shape or other values than its lock file states. \
            Compare it with the checkpoint that it was compiled from, and give the same --model-def; or compile again.",
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
            the definition, as the message suggests one, or `ignore tensors \"NAME\"` when it is known to be dead. \
            What is suggested is a guess from names and shapes: look at the sizes and at what holds several matrices.",
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
            reads may be a feature that the output lacks. Those that have names of features are listed first. Read them \
            as `config.KEY`, or write `ignore config \"KEY\"` for what changes nothing. Keys whose value is null, false \
            or empty need no entry, nor do those that say how a model was trained or is sampled. `--strict` makes this \
            an error.",
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
        explanation: "config.json names an architecture that no shipped definition lists. Write one, which is data and \
            not code: the message names the shipped one that reads most of the tensors, on which it may build. `lathe \
            check --model-def FILE CHECKPOINT` says at each step what is missing; docs/new-architecture.md is an example.",
    },
    Code {
        code: "C0013",
        title: "a checkpoint that is already quantized",
        explanation: "config.json has a quantization_config: the tensors hold codes of a format instead of numbers. \
            This version reads F32, F16 and BF16 checkpoints only.",
    },
    Code {
        code: "C0014",
        title: "a value that the format cannot hold",
        explanation: "A weight is larger than the largest value of the format that the spec gives it: f16 ends at 65504. \
            It would become infinite, and so would what the model computes. Give the module another format, such as \
            bf16, which has the range of f32.",
    },
    Code {
        code: "C0015",
        title: "a weight of which its format keeps almost nothing",
        explanation: "The packed weight is as far from the stored one as zeros would be, or nearly: less than 3 dB of signal to \
            noise. That happens where scales have too small a range (f16 ends at 2^-24; bf16 and f32 do not), and where few values \
            of a group are much larger than all others. Give the module smaller groups, more bits or `scales: bf16`.",
    },
    Code {
        code: "C0016",
        title: "a compiled model that computes something else than its checkpoint",
        explanation: "Rotations and scales change weights and must not change what the model computes. Before anything is \
            written, `lathe compile` runs the compiled model, its weights not yet encoded, beside the checkpoint, over text \
            and random tokens. Their logits were further apart than a ten-thousandth of their range, or what chooses \
            experts was, or what a weight gives was off by a thousandth. A matrix of your own that is not quite orthogonal does that, and so \
            do activations so large that f32 cannot hold a rotated row; else it is a mistake in Lathe. The message says \
            at which step the two part.",
    },
    Code {
        code: "F0001",
        title: "a file that fmt leaves as it is",
        explanation: "YAML anchors, aliases, tags, directives, blocks of text and texts over several lines would be \
            written out by printing what the file says, so such a file is not formatted. Nor is one of which formatting \
            would change what it says, which is a mistake in Lathe: what is formatted is read again before it is given out.",
    },
    Code {
        code: "F0002",
        title: "a text that is not formatted",
        explanation: "`lathe fmt --check` found a file that `lathe fmt` would change.",
    },
    Code {
        code: "F0003",
        title: "something that cannot be said in the other syntax",
        explanation: "YAML holds one spec, or the names that other specs share; several specs and model definitions \
            are written in the Lathe language only. Comments are dropped by `convert`, with a note.",
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
        title: "a part of a definition that has no part in the output",
        explanation: "The definition declares a module, and the output does not depend on it. Its tensors would be \
            claimed and then dropped, so the compiled model would silently lack a part. Use the module in the graph, \
            or, when its tensors are known to be dead, drop it and write `ignore tensors \"NAME\"`. The same holds of \
            what the graph computes and drops, and of a `let` or a block that nothing uses: where it was to replace one \
            of a model that is extended, its name is another.",
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
        code: "P0003",
        title: "a text in a newer version of the language",
        explanation: "The version line names a version that is newer than this compiler. What the text means is \
            decided by that version, so nothing in it is looked at: use a newer compiler, or the version that this one \
            reads.",
    },
    Code {
        code: "P0004",
        title: "a section or key that does not exist",
        explanation: "A spec has a fixed set of sections, and in YAML a fixed set of keys at each level. One that is \
            not known would be ignored by a lenient reader, and what it was meant to say would silently not happen. \
            The message names the nearest one that exists.",
    },
    Code {
        code: "P0005",
        title: "something that is said twice",
        explanation: "A section, a key or an argument stands twice in one place. Which one was meant cannot be known, \
            so the run fails. To find what else is wrong, the first one is taken, and of sections that are lists of lines \
            every line.",
    },
    Code {
        code: "P0006",
        title: "text that is not YAML",
        explanation: "The file cannot be read as YAML, or holds what is not taken of it: tags and merge keys. Frequent \
            causes are a tab in the indentation (YAML takes blanks only); a missing blank behind `:` or `-`; a pattern \
            without quotes: `*`, `{`, `[`, `&` and `!` mean something to YAML at the start of a value, so `match: **` \
            must be written `match: \"**\"`; and a `\\` in double quotes: regular expressions stand best in single ones.",
    },
    Code {
        code: "P0007",
        title: "YAML that is too large",
        explanation: "The document nests deeper than 16 levels, has more than 20000 values, 256 anchors or 256 aliases, \
            or repeats more than 10000 values by aliases: such a text is written to exhaust whoever reads it. A spec \
            needs three levels and a few hundred lines.",
    },
    Code {
        code: "P0008",
        title: "a YAML value of the wrong type",
        explanation: "A key was given another type of value than it takes: a list where a text is expected, a number \
            where `true` or `false` is.",
    },
    Code {
        code: "S0001",
        title: "a spec or model of this name does not exist",
        explanation: "A name on the command line is a file, or the path of a shipped spec without its extension. \
            `lathe list specs` shows those.",
    },
    Code {
        code: "S0002",
        title: "a file that does not hold the one spec or model that is asked for",
        explanation: "Where one spec or one model definition is asked for, the file must hold exactly one, or the name \
            must say which: `FILE#NAME`. Model definitions stand in files of their own.",
    },
    Code {
        code: "S0003",
        title: "imports or bases that lead back to themselves",
        explanation: "A file uses itself through `use`, a spec or model builds on itself through `extends`, or a `let` \
            on itself. The message shows the chain.",
    },
    Code {
        code: "S0004",
        title: "a path that leads out of the folder",
        explanation: "`use` and `extends` reach files in the folder of the spec or model that was asked for and below \
            it, or in the shipped library. A path that leads out of either, an absolute one, or a link that points \
            elsewhere is refused: what a text does must follow from what is handed over with it.",
    },
    Code {
        code: "S0005",
        title: "a name that is given twice",
        explanation: "Two `let`s, specs or models of one scope have the same name, or a `let` has the name of a format \
            or rotation. Which one a later line means could not be told.",
    },
    Code {
        code: "S0006",
        title: "a name that is not known",
        explanation: "A `let`, a spec, a model or a file is referred to that does not exist in this scope. Names come \
            from the same file, from files that it names with `use`, from the spec that it extends, and, for specs and \
            models, from the library.",
    },
    Code {
        code: "S0007",
        title: "an override that fits nothing",
        explanation: "`--set NAME=VALUE` replaces a `let`, `kv_cache`, `tied`, `table_basis` or `compute`; \
            `--set NAME.ARGUMENT=VALUE` an argument of the format or rotation under that name. The name must exist, and the \
            value must be one that could stand in the spec.",
    },
    Code {
        code: "S0008",
        title: "a spec for other models",
        explanation: "The spec lists in `models` what it was written for, and the checkpoint is none of them. Its \
            patterns and formats were chosen for other modules: extend it, or add the model to its list.",
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
        code: "S0104",
        title: "a pattern that matches a container only",
        explanation: "The pattern names something that holds modules and is none itself, as `layers[0]` does. Formats \
            belong to modules: write `.**` behind it for every module below.",
    },
    Code {
        code: "S0105",
        title: "an index that is out of range",
        explanation: "A single index must exist; ranges, as in `[0..4]`, are clipped to what there is. Negative \
            indices count from the end.",
    },
    Code {
        code: "S0106",
        title: "an alternative that matches nothing",
        explanation: "Braces and lists of indices stand for several patterns, and each of them must match something: \
            in `{up_proj,upproj}` the second would otherwise be a typing error that nobody sees. Drop it, or mark the \
            rule `optional`.",
    },
    Code {
        code: "S0107",
        title: "a name that is never used",
        explanation: "The spec binds a name with `let`, and neither its rules nor its settings use it. Often the name is \
            misspelt where it was meant to stand, or a rule was taken out and its `let` was forgotten.",
    },
    Code {
        code: "S0201",
        title: "an unknown format",
        explanation: "The name after `=>` is not a format, nor a `let` in sight. `lathe list formats` shows all, and \
            which of them this version builds.",
    },
    Code {
        code: "S0202",
        title: "a part of the language that this version cannot build",
        explanation: "The spec asks for something that the language has but this version of the compiler cannot \
            build. It is refused here, as ignoring it would give another model than the one asked for.",
    },
    Code {
        code: "S0203",
        title: "an argument that does not exist",
        explanation: "The format or rotation does not take an argument of this name. The message names those that it \
            takes.",
    },
    Code {
        code: "S0204",
        title: "an argument of the wrong type",
        explanation: "The argument takes a value of another type: a number, `true` or `false`, or one of a few words.",
    },
    Code {
        code: "S0205",
        title: "an argument that is out of range",
        explanation: "The value has the right type, but lies outside of what the format or rotation can do.",
    },
    Code {
        code: "S0206",
        title: "an argument that is missing",
        explanation: "A format or rotation needs this argument, and no value of it is common enough to be assumed.",
    },
    Code {
        code: "S0207",
        title: "arguments that exclude each other",
        explanation: "Two arguments say the same thing in different ways, such as `per: channel` and `group: 128`, \
            which both say which weights share a scale.",
    },
    Code {
        code: "S0208",
        title: "a format that cannot stand here",
        explanation: "Some formats are for weights only, some for activations, some for the cache of keys and values; \
            so are some of their arguments: `per: token` makes sense for activations, which have tokens, and not for \
            weights.",
    },
    Code {
        code: "S0209",
        title: "a group or block that does not divide the weight",
        explanation: "The weights of a row are quantized in groups of equal size, so the group size must divide the \
            number of inputs of the module; blocks must divide both dimensions. The message names the module and both \
            numbers.",
    },
    Code {
        code: "S0210",
        title: "a module that takes no format",
        explanation: "Only matrices can be stored in another format: linears, heads, embeddings, routers and \
            convolutions. The gains of normalizations are vectors of a few thousand values that are kept as they are.",
    },
    Code {
        code: "S0211",
        title: "an input format on a module that has no activations as input",
        explanation: "An embedding looks up rows by token: there are no activations in front of it that could be \
            quantized. Name the linears, or take the input format back with a later rule: `:embedding => with input \
            keep`.",
    },
    Code {
        code: "S0301",
        title: "a tied table that is given two formats",
        explanation: "Several modules read one stored table, and under `tied => share` it is stored once, in one \
            format. Two rules give its ends different ones. Give both ends one format, leave one end undecided, or \
            write `tied => split`, which stores the table twice.",
    },
    Code {
        code: "S0401",
        title: "an unknown site",
        explanation: "Rotations act on edges of the graph that are found by structure: `residual`, `value`, \
            `query_key`, `ffn_hidden`, and `input of PATTERN`.",
    },
    Code { code: "S0402", title: "an unknown rotation", explanation: "The name after `by` is not a rotation." },
    Code {
        code: "S0403",
        title: "two rotations on one edge",
        explanation: "Two requests rotate the same edge of the graph. An edge has one frame; write one request that \
            says what is meant, or take one back with `none`.",
    },
    Code {
        code: "S0404",
        title: "a site that the model does not have",
        explanation: "The graph has no edge at this site, as a model without attention has no `value`. Mark the \
            request `optional` when the spec is meant for several models.",
    },
    Code {
        code: "S0405",
        title: "a rotation that needs an operation at run time where `offline` was asked for",
        explanation: "`offline` asks for a rotation that weights alone carry out: what writes the edge and what reads it \
            take it over. Here one of them cannot, as it is no matrix (an activation, a product, the rotary embedding, a \
            norm in front of an addition) or its values must stay as they are, so each token would be transformed as the \
            model runs. Drop `offline`, which costs what the plan states, or the request.",
    },
    Code {
        code: "S0406",
        title: "a width that has no known Hadamard matrix, or that blocks do not divide",
        explanation: "Hadamard matrices exist for 1, 2 and multiples of 4 only, and not of each of those one is known. A \
            block must divide the width of the edge; where heads are rotated, that is the size of a head. Write `block: n` \
            with one of the sizes that the message names, or `orthogonal(seed: 7)`, which exists for every width and costs \
            more where it is done at run time.",
    },
    Code {
        code: "S0407",
        title: "a matrix that is no rotation of this width",
        explanation: "`matrix` takes a tensor of a safetensors file: square, of the width of the edge (of a head, where heads \
            are rotated), stored as F32, F64, F16 or BF16, and orthogonal: no element of Q Qᵀ may be further than 1e-4 from \
            that of the identity. The message says which of these does not hold, and by how much.",
    },
    Code {
        code: "S0408",
        title: "a value that would be rounded again where `keep(exact)` was asked for",
        explanation: "A weight that takes over a rotation or the gain of a norm has other values than the stored ones, and \
            these are rounded to its dtype again. `keep(exact)` refuses that. Write `keep` or `f32`, or take the rotation \
            back from the edges that the module reads and writes: `input of MODULE by none`.",
    },
    Code {
        code: "S0409",
        title: "a rotation that cannot act on this site",
        explanation: "Each site has a structure around it, and not every matrix can be undone behind it. `smooth` has a \
            factor for each channel: a norm does not let it through, so it cannot act on `residual`, nor on `query_key`, where \
            one matrix is applied to both q and k. The key of a matrix for `residual` cannot name a layer, as there is one \
            stream through all of them.",
    },
    Code {
        code: "S0410",
        title: "scales to be measured, and nothing to measure them on",
        explanation: "`smooth` divides each channel of an activation by a factor that depends on how large the channel gets. \
            That is measured on a text: `lathe compile --calibrate FILE` reads its first 2048 tokens with the original model. \
            Take a text like those that the compiled model will read.",
    },
    Code {
        code: "S0501",
        title: "a setting with an unknown value",
        explanation: "`tied` is share, split or auto; `table_basis` is rotated or original; `compute` is f32, bf16 or f16.",
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
