use lathe_grammar::parse;
use lathe_grammar::span::Sources;
#[test]
fn example() {
    let mut sources = Sources::new();
    let id = sources.add("llama.lathe", include_str!("files/llama.lathe"));
    let parsed = parse(&sources, id);
    for d in &parsed.diagnostics { eprintln!("{:?} {:?}", sources.line_column(d.labels[0].span), d); }
    assert!(parsed.diagnostics.is_empty());
    println!("{:#?}", parsed.file);
}
