//! `lathe-run logits`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use lathe_kernels::formats::PlaneDtype;
use lathe_runtime::exec::{Logits, SessionOptions};
use lathe_runtime::program::StoredTensor;
use lathe_runtime::weights::{Layout, WeightsWriter};

use super::failure::Failure;
use super::files::{self, Aside};
use super::model::{MachineOptions, Model};

/// Tokens whose logits are kept at once.
const CHUNK: usize = 128;

/// Write the logits of every token to a safetensors file
///
/// The file has one tensor, `logits`, f32 [tokens, vocabulary].
#[derive(Debug, Args)]
pub(crate) struct LogitsArgs {
    /// Folder of the compiled model
    #[arg(value_name = "OUT")]
    model: PathBuf,

    /// Tokens to read, separated by commas
    #[arg(long, value_name = "IDS", required = true, value_delimiter = ',')]
    ids: Vec<u32>,

    /// File to write, - for stdout
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the verb.
pub(crate) fn run(args: &LogitsArgs, machine: &MachineOptions, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let model = Model::open(&args.model, machine)?;
    let shape = vec![args.ids.len(), model.artifact.program.vocabulary()];
    let tensor = StoredTensor { name: "logits".to_owned(), dtype: PlaneDtype::F32, shape };
    if files::is_standard(&args.output) {
        out.write_all(&Layout::new(&[tensor])?.header)?;
        compute(&model, &args.ids, |_, bytes| Ok(out.write_all(bytes)?))
    } else {
        let aside = Aside::new(&args.output)?;
        let writer = WeightsWriter::create(&aside.path, vec![tensor])?;
        compute(&model, &args.ids, |offset, bytes| Ok(writer.write_at(0, offset, bytes)?))?;
        writer.finish()?;
        aside.keep()
    }
}

/// Hands the logits over in order, little-endian, with the offset of their first byte.
fn compute(
    model: &Model,
    ids: &[u32],
    mut write: impl FnMut(u64, &[u8]) -> Result<(), Failure> + Send,
) -> Result<(), Failure> {
    let options =
        SessionOptions { max_logits: CHUNK, min_positions: ids.len(), ..SessionOptions::with_capacity(ids.len()) };
    model.with_session(&options, |session| {
        let (mut bytes, mut offset) = (Vec::new(), 0);
        for ids in ids.chunks(CHUNK) {
            let logits = session.forward(ids, Logits::All)?;
            bytes.clear();
            bytes.extend(logits.iter().flat_map(|logit| logit.to_le_bytes()));
            write(offset, &bytes)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    })
}
