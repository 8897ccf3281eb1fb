//! The name under which a checkpoint stores several modules is a name of each of them.

use std::fs;

use serde_json::Value;

use crate::support;
use crate::support::command::{lathe, succeed_json};

/// The format of each module of the first layer of a fused checkpoint, under these rules.
fn formats(rules: &str) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("spec.lathe");
    fs::write(&spec, format!("lathe 1\n\nspec s {{\n    rules {{\n{rules}\n    }}\n}}\n")).unwrap();
    let plan =
        succeed_json(lathe().args(["plan", "--json"]).arg(&spec).arg(support::root().join("families/phi3/longrope")));
    let modules = plan["modules"].as_array().expect("plans list modules");
    let text = |module: &Value, key: &str| module[key].as_str().unwrap_or_default().to_string();
    let first = modules.iter().filter(|module| text(module, "path").starts_with("model.layers.0."));
    first.map(|module| (text(module, "path"), text(module, "format"))).collect()
}

#[test]
fn rules_may_name_the_stored_tensor_of_several_modules() {
    let fused = formats("        self_attn.qkv_proj => f32\n        mlp.gate_up_proj => f16");
    let apart = formats("        self_attn.{q_proj, k_proj, v_proj} => f32\n        mlp.{gate_proj, up_proj} => f16");
    assert_eq!(fused, apart);
    let of = |format: &str| fused.iter().filter(|(_, found)| found == format).count();
    assert_eq!((of("f32"), of("f16")), (3, 2));
}

#[test]
fn a_later_rule_decides_about_one_of_them() {
    let found = formats("        qkv_proj => f32\n        k_proj => f16");
    let of = |end: &str| found.iter().find(|(path, _)| path.ends_with(end)).map(|(_, format)| format.as_str());
    assert_eq!([of("q_proj"), of("k_proj"), of("v_proj")], [Some("f32"), Some("f16"), Some("f32")]);
}
