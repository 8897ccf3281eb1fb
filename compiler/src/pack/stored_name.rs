//! How elements of stored tensors are called where it is written down what was read.
//!
//! All of a tensor in its order is called as the tensor is. Behind the name of a part, or of another order, its view stands
//! in brackets, as [`View`] enumerates it: `NAME[4096: 64*768 32*1]` begins at element 4096 and has loops of 64 steps of 768
//! elements and 32 steps of 1. A tensor whose own name ends with `]` always has its view behind it.

use std::fmt::Write as _;

use crate::ir::{Axis, TensorId, View};
use crate::model::Checkpoint;

/// What stored elements are called.
pub(crate) fn stored_name(view: &View, checkpoint: &Checkpoint) -> String {
    let tensor = checkpoint.tensor(view.tensor);
    let mut name = tensor.name.clone();
    if *view != whole(view.tensor, checkpoint) || name.ends_with(']') {
        write!(name, "[{}:", view.offset).expect("strings take any text");
        for Axis { size, stride } in &view.axes {
            write!(name, " {size}*{stride}").expect("strings take any text");
        }
        name.push(']');
    }
    name
}

/// The stored elements that are called so. `None` where the checkpoint has none, or calls them otherwise.
pub(crate) fn find_stored(name: &str, checkpoint: &Checkpoint) -> Option<View> {
    let view = match name.strip_suffix(']') {
        None => whole(checkpoint.find(name)?, checkpoint),
        Some(text) => {
            let (tensor, view) = text.rsplit_once('[')?;
            let (offset, axes) = view.split_once(':')?;
            let axis = |text: &str| {
                let (size, stride) = text.split_once('*')?;
                Some(Axis { size: size.parse().ok()?, stride: stride.parse().ok()? })
            };
            let axes = axes.split_ascii_whitespace().map(axis).collect::<Option<Vec<_>>>()?;
            View::new(checkpoint.find(tensor)?, offset.parse().ok()?, axes)
        }
    };
    Some(view).filter(|view| stored_name(view, checkpoint) == name)
}

fn whole(tensor: TensorId, checkpoint: &Checkpoint) -> View {
    let shape = &checkpoint.tensor(tensor).shape;
    View::contiguous(tensor, 0, shape.iter().fold(1, |product, size| product.saturating_mul(*size)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use safetensors::tensor::{Dtype, TensorView};

    use super::*;

    #[test]
    fn names_read_back_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = vec![0; 4 * 24];
        let tensor = || TensorView::new(Dtype::F32, vec![4, 6], &bytes).unwrap();
        let names = ["a", "a[0: 2*1]", "b c"];
        let file = safetensors::serialize(names.map(|name| (name, tensor())), None).unwrap();
        fs::write(folder.path().join("model.safetensors"), file).unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let mut found = Vec::new();
        for name in names {
            let id = checkpoint.find(name).unwrap();
            let transposed = [Axis { size: 6, stride: 1 }, Axis { size: 4, stride: 6 }];
            let views = [
                View::contiguous(id, 0, 24),
                View::contiguous(id, 0, 2),
                View::contiguous(id, 5, 1),
                View::new(id, 0, transposed),
            ];
            for view in views {
                let text = stored_name(&view, &checkpoint);
                assert_eq!(find_stored(&text, &checkpoint), Some(view), "{text}");
                found.push(text);
            }
        }
        let of_a = ["a", "a[0: 2*1]", "a[5:]", "a[0: 6*1 4*6]"];
        assert_eq!(found[..4], of_a);
        assert_eq!(found[4], "a[0: 2*1][0: 24*1]");
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 12);
        let wrong = [
            "",
            "]",
            "d",
            "a[",
            "a[]",
            "a[0]",
            "a[0: 24*1]",
            "a[0: 4*6 6*1]",
            "a[0:  2*1]",
            "a[00: 2*1]",
            "a[0: 1*1]",
            "a[0: 2*1",
            "a[-1: 2*1]",
            "a[0: 2]",
            "a[99999999999999999999: 2*1]",
            "a[0: 18446744073709551615*2 3*2]]",
        ];
        for text in wrong {
            assert_eq!(find_stored(text, &checkpoint), None, "{text}");
        }
    }
}
