//! A writer of safetensors files that writes whatever it is told, also lies.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A tensor as the header states it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its name; nothing keeps two from having the same.
    pub(crate) name: String,
    /// `BF16`, `F32`, …
    pub(crate) dtype: &'static str,
    /// Outermost dimension first.
    pub(crate) shape: Vec<u64>,
    /// First byte and one past the last, from the start of the data.
    pub(crate) offsets: (u64, u64),
}

/// A safetensors file that is being made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forge {
    /// The header, in the order that it is written in.
    pub(crate) entries: Vec<Entry>,
    /// What follows the header.
    pub(crate) data: Vec<u8>,
}

impl Forge {
    /// Appends a tensor, truthfully.
    pub(crate) fn push(&mut self, name: &str, dtype: &'static str, shape: &[u64], bytes: &[u8]) {
        let begin = self.data.len() as u64;
        self.data.extend_from_slice(bytes);
        let offsets = (begin, self.data.len() as u64);
        self.entries.push(Entry { name: name.into(), dtype, shape: shape.to_vec(), offsets });
    }

    /// Removes a tensor and its bytes; those after it move up.
    pub(crate) fn remove(&mut self, name: &str) {
        let index = self.index(name);
        let (begin, end) = self.entries.remove(index).offsets;
        self.data.drain(begin as usize..end as usize);
        for entry in &mut self.entries {
            if entry.offsets.0 >= end {
                entry.offsets = (entry.offsets.0 - (end - begin), entry.offsets.1 - (end - begin));
            }
        }
    }

    /// The header's entry of a tensor, to be falsified.
    pub(crate) fn entry(&mut self, name: &str) -> &mut Entry {
        let index = self.index(name);
        &mut self.entries[index]
    }

    /// The bytes of a tensor.
    pub(crate) fn bytes(&mut self, name: &str) -> &mut [u8] {
        let (begin, end) = self.entry(name).offsets;
        &mut self.data[begin as usize..end as usize]
    }

    fn index(&self, name: &str) -> usize {
        self.entries.iter().position(|entry| entry.name == name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// The tensors for which `keep` holds, in a file of their own.
    pub(crate) fn part(&self, keep: impl Fn(usize) -> bool) -> Forge {
        let mut part = Forge::default();
        for (_, entry) in self.entries.iter().enumerate().filter(|(index, _)| keep(*index)) {
            let bytes = &self.data[entry.offsets.0 as usize..entry.offsets.1 as usize];
            part.push(&entry.name, entry.dtype, &entry.shape, bytes);
        }
        part
    }

    /// The header as JSON.
    pub(crate) fn header(&self) -> String {
        let mut text = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
        for Entry { name, dtype, shape, offsets: (begin, end) } in &self.entries {
            write!(text, ",{name:?}:{{\"dtype\":{dtype:?},\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}")
                .expect("writing to a string cannot fail");
        }
        text + "}"
    }

    /// The whole file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        assemble(&self.header(), &self.data)
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, self.to_bytes()).expect("temporary files can be written");
    }

    /// The file that was written before.
    pub(crate) fn open(path: &Path) -> Forge {
        let bytes = super::files::read(path);
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("shipped checkpoints are sound");
        let mut tensors: Vec<_> = tensors.iter().collect();
        tensors.sort_by_key(|(_, view)| view.data().as_ptr());
        let mut forge = Forge::default();
        for (name, view) in tensors {
            let dtype = match view.dtype() {
                safetensors::Dtype::BF16 => "BF16",
                safetensors::Dtype::F16 => "F16",
                safetensors::Dtype::F32 => "F32",
                safetensors::Dtype::I8 => "I8",
                safetensors::Dtype::U8 => "U8",
                other => panic!("no file of the tests has tensors of {other}"),
            };
            let shape: Vec<u64> = view.shape().iter().map(|&n| n as u64).collect();
            forge.push(name, dtype, &shape, view.data());
        }
        forge
    }
}

/// Length, header and data in the layout of the format.
pub(crate) fn assemble(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}
