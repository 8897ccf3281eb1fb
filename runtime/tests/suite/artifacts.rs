//! Folders that are no compiled models, or broken ones, are errors that say what is wrong.

use std::fs;

use lathe_kernels::formats::PlaneDtype;
use lathe_runtime::artifact::{Artifact, ArtifactError};
use lathe_runtime::program::StoredTensor;
use lathe_runtime::weights::{Weights, WeightsError, WeightsWriter};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::common::{SmallModel, small_model};

fn message(model: &SmallModel) -> String {
    let error = Artifact::open(model.path()).unwrap_err();
    assert!(error.is_input_fault(), "{error}");
    error.to_string()
}

/// Rewrites the weight file with the safetensors library: other order, no alignment.
fn rewrite<'a>(
    model: &SmallModel,
    file: &'a [u8],
    edit: impl Fn(&str, TensorView<'a>) -> Option<(String, TensorView<'a>)>,
) {
    let read = SafeTensors::deserialize(file).unwrap();
    let views = read.tensors().into_iter().filter(|(name, _)| !name.starts_with("pad."));
    let edited: Vec<(String, TensorView<'_>)> = views.filter_map(|(name, view)| edit(&name, view)).collect();
    fs::write(model.weight_file(), safetensors::serialize(edited, None).unwrap()).unwrap();
}

#[test]
fn a_model_opens() {
    let model = small_model();
    let artifact = Artifact::open(model.path()).unwrap();
    assert_eq!(artifact.program, model.program);
    assert_eq!(artifact.weights.stored_bytes(), 25_624);
    let matrices = artifact.weights.matrices().unwrap();
    let mut row = vec![0.0; 24];
    matrices[0].decode_row(36, &mut row);
    assert_eq!(row, model.values[0][36 * 24..]);
}

#[test]
fn files_of_other_tools_are_read() {
    let model = small_model();
    let file = fs::read(model.weight_file()).unwrap();
    rewrite(&model, &file, |name, view| Some((name.to_owned(), view)));
    let artifact = Artifact::open(model.path()).unwrap();
    let matrices = artifact.weights.matrices().unwrap();
    for (matrix, values) in matrices.iter().zip(&model.values) {
        let mut row = vec![0.0; matrix.cols()];
        matrix.decode_row(matrix.rows() - 1, &mut row);
        assert_eq!(row, values[values.len() - matrix.cols()..]);
    }
}

#[test]
fn weights_may_lie_in_several_files() {
    let model = small_model();
    let file = fs::read(model.weight_file()).unwrap();
    rewrite(&model, &file, |name, view| name.starts_with("layers").then(|| (name.to_owned(), view)));
    fs::rename(model.weight_file(), model.path().join("weights-00002.safetensors")).unwrap();
    rewrite(&model, &file, |name, view| (!name.starts_with("layers")).then(|| (name.to_owned(), view)));
    Artifact::open(model.path()).unwrap();
    fs::copy(model.weight_file(), model.path().join("weights-00003.safetensors")).unwrap();
    assert!(message(&model).contains("weights-00001.safetensors and in"), "{}", message(&model));
}

#[test]
fn files_that_are_cut_short_are_refused() {
    let model = small_model();
    let file = fs::read(model.weight_file()).unwrap();
    for length in [0, 1, 7, 8, 9, 100, file.len() / 2, file.len() - 1] {
        fs::write(model.weight_file(), &file[..length]).unwrap();
        let message = message(&model);
        assert!(message.contains("weights-00001.safetensors: "), "{message}");
    }
    let mut longer = file.clone();
    longer.push(0);
    fs::write(model.weight_file(), longer).unwrap();
    assert!(message(&model).contains("bytes"));
}

#[test]
fn flipped_header_bytes_never_panic() {
    let model = small_model();
    let file = fs::read(model.weight_file()).unwrap();
    let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    for at in (0..header).step_by(11) {
        for byte in [0, b'0', b'9', b'"', 0xff] {
            let mut broken = file.clone();
            broken[at] = byte;
            fs::write(model.weight_file(), broken).unwrap();
            let _ = Weights::open(model.path(), &model.program);
        }
    }
}

#[test]
fn missing_wrong_and_unknown_tensors_are_named() {
    let model = small_model();
    let file = fs::read(model.weight_file()).unwrap();
    rewrite(&model, &file, |name, view| (name != "norm.weight").then(|| (name.to_owned(), view)));
    assert!(message(&model).ends_with("has no tensor `norm.weight` (F32 [24])"), "{}", message(&model));

    rewrite(&model, &file, |name, view| {
        let shape = if name == "norm.weight" { vec![2, 12] } else { view.shape().to_vec() };
        Some((name.to_owned(), TensorView::new(view.dtype(), shape, view.data()).unwrap()))
    });
    let expected = "tensor `norm.weight` is F32 [2, 12] in 96 bytes, expected F32 [24] in 96 bytes";
    assert!(message(&model).ends_with(expected), "{}", message(&model));

    rewrite(&model, &file, |name, view| {
        let dtype = if name == "norm.weight" { safetensors::Dtype::I32 } else { view.dtype() };
        Some((name.to_owned(), TensorView::new(dtype, view.shape().to_vec(), view.data()).unwrap()))
    });
    let expected = "tensor `norm.weight` is I32 [24] in 96 bytes, expected F32 [24] in 96 bytes";
    assert!(message(&model).ends_with(expected), "{}", message(&model));

    rewrite(&model, &file, |name, view| Some((name.replace("norm.weight", "norms.weight"), view)));
    assert!(message(&model).contains("has no tensor `layers.0.attention_norm.weight`"), "{}", message(&model));

    rewrite(&model, &file, |name, view| Some((name.to_owned(), view)));
    let extra = StoredTensor { name: "extra".to_owned(), dtype: PlaneDtype::U8, shape: vec![1] };
    let writer = WeightsWriter::create(&model.path().join("weights-2.safetensors"), vec![extra]).unwrap();
    writer.write_at(0, 0, &[1]).unwrap();
    writer.finish().unwrap();
    assert!(message(&model).ends_with("weights-2.safetensors: tensor `extra` belongs to no weight of the program"));
}

#[test]
fn folders_without_weights_are_refused() {
    let model = small_model();
    fs::remove_file(model.weight_file()).unwrap();
    let error = Artifact::open(model.path()).unwrap_err();
    assert!(matches!(error, ArtifactError::Weights(WeightsError::NoFiles { .. })), "{error}");
}

#[test]
fn broken_settings_are_refused() {
    let model = small_model();
    fs::write(model.path().join("generation_config.json"), "{\"eos_token_id\": \"end\"}").unwrap();
    assert!(message(&model).contains("generation_config.json: "));
    fs::write(model.path().join("generation_config.json"), "{\"eos_token_id\": [1, 2]}").unwrap();
    assert_eq!(Artifact::open(model.path()).unwrap().generation.end_of_text, [1, 2]);
}
