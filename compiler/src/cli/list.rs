//! `lathe list`

use std::fmt::Write as _;

use clap::ValueEnum;
use lathe_grammar::ast::{File, Model};
use lathe_grammar::span::Sources;

use super::{Failure, print};
use crate::compile::architectures;

/// List what ships inside this binary.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to list.
    what: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Model definitions and the architectures that they describe.
    Models,
    /// Quantization specs.
    Specs,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut text = String::new();
    match arguments.what {
        What::Specs => {
            for entry in lathe_specs::SPECS {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{}", entry.name);
            }
        }
        What::Models => {
            let width = lathe_specs::MODELS.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
            for entry in lathe_specs::MODELS {
                let names = shipped(entry).iter().flat_map(architectures).collect::<Vec<_>>().join(", ");
                let _ = writeln!(text, "{:width$}  {names}", entry.name);
            }
        }
    }
    print(&text)
}

fn shipped(entry: &lathe_specs::Entry) -> Vec<Model> {
    let mut sources = Sources::new();
    let source = sources.add(entry.path, entry.text);
    lathe_grammar::parse(&sources, source).file.iter().flat_map(File::models).cloned().collect()
}
