//! Stored tensors and who reads them: every element is claimed exactly once, or ignored by name.

use std::collections::BTreeSet;

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::pattern::NameGlob;

use super::Elaborator;
use super::constructors::Declared;
use super::value::Reported;
use crate::ir::{Param, ParamId, Slice, TensorId, Values};

/// Missing tensors after which no more are looked for.
const MAX_MISSING: usize = 100;

impl Elaborator<'_> {
    /// Adds a parameter to the graph's table.
    pub(super) fn param(&mut self, name: String, shape: Vec<u64>, values: Values) -> ParamId {
        self.graph.add_param(Param { name, shape, values })
    }

    /// The parameter `path.suffix`, stored under that name with this shape. What does not fit is reported; the
    /// parameter is made all the same, so that one bad tensor does not hide the next.
    pub(super) fn stored(&mut self, declared: &Declared<'_>, suffix: &str, shape: &[u64]) -> Result<ParamId, Reported> {
        self.step(declared.span)?;
        let name = format!("{}.{suffix}", declared.path);
        let rows = if shape.len() == 1 { 1 } else { shape[0] };
        if self.missing > MAX_MISSING {
            // The checkpoint is another model's; a thousand more names would say no more.
            return Err(Reported);
        }
        let tensor = self.claim(declared, &name, shape);
        let values = Values::Stored(Slice { tensor: tensor.unwrap_or(TensorId(u32::MAX)), first_row: 0, rows });
        Ok(self.param(name, shape.to_vec(), values))
    }

    fn claim(&mut self, declared: &Declared<'_>, name: &str, shape: &[u64]) -> Option<TensorId> {
        let folder = self.checkpoint.folder.display().to_string();
        let Some(id) = self.checkpoint.find(name) else {
            self.missing += 1;
            let message = format!("{folder}: expected tensor `{name}` {shape:?}, found no tensor of this name");
            let mut diagnostic = Diagnostic::error("C0004", message).file(folder).label(declared.span, "declared here");
            if let Some(near) = self.checkpoint.nearest(name) {
                diagnostic = diagnostic.note(format!("the closest stored name is `{near}`"));
            }
            self.report(diagnostic);
            return None;
        };
        let tensor = self.checkpoint.tensor(id);
        let file = self.checkpoint.file_of(tensor);
        if tensor.shape != shape {
            let message = format!("{file}: tensor `{name}`: expected shape {shape:?}, found {:?}", tensor.shape);
            let mut diagnostic =
                Diagnostic::error("C0005", message).file(file.clone()).label(declared.span, "declared here");
            for key in declared.keys {
                diagnostic = diagnostic.note(key.as_str());
            }
            self.report(diagnostic);
        }
        if tensor.stored_dtype().is_none() {
            let message = format!("{file}: tensor `{name}`: expected F32, F16 or BF16, found {:?}", tensor.dtype);
            self.report(Diagnostic::error("C0009", message).file(file.clone()).label(declared.span, "declared here"));
        }
        if let Some((other, span)) = self.claimed.get(&id) {
            let diagnostic =
                Diagnostic::error("C0007", format!("{file}: `{name}` and `{other}` read one stored tensor"))
                    .file(file)
                    .label(declared.span, "the second reader")
                    .label(*span, "the first reader");
            self.report(diagnostic);
        } else {
            self.claimed.insert(id, (name.to_string(), declared.span));
        }
        Some(id)
    }

    /// Reports every stored tensor that nobody claimed and no `ignore tensors` names.
    pub(super) fn claims(&mut self) {
        let mut ignored = Vec::new();
        for (text, span) in std::mem::take(&mut self.ignored_tensors) {
            match NameGlob::parse(&text) {
                Ok(glob) => ignored.push(glob),
                Err(error) => {
                    self.error("S0102", span, format!("`{text}`: {}", error.message));
                }
            }
        }
        // A module whose declaration is at fault would have claimed what is below its path.
        let failed: BTreeSet<&str> = self
            .modules
            .iter()
            .filter(|built| built.module.params.is_empty())
            .map(|built| built.module.path.as_str())
            .collect();
        let mut unclaimed = Vec::new();
        for (index, tensor) in self.checkpoint.tensors.iter().enumerate() {
            let id = TensorId(index as u32);
            let module = tensor.name.rsplit_once('.').map_or("", |(module, _)| module);
            if self.claimed.contains_key(&id)
                || failed.contains(module)
                || ignored.iter().any(|glob| glob.matches(&tensor.name))
            {
                continue;
            }
            let file = self.checkpoint.file_of(tensor);
            let message = format!(
                "{file}: expected a module for tensor `{}` {:?}, found none in the definition",
                tensor.name, tensor.shape
            );
            let help = format!(
                "declare the module that reads it, or write `ignore tensors \"{}\"` when it is dead",
                tensor.name
            );
            unclaimed.push(Diagnostic::error("C0006", message).file(file).help(help));
        }
        self.diagnostics.extend(unclaimed);
    }
}
