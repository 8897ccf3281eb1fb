//! What the rules of the grammar are called in messages.

use super::Rule;

/// What could have stood there, without doublets, the end of the line last.
pub(super) fn expectations(positives: &[Rule]) -> Vec<&'static str> {
    const LINE_END: &str = "the end of the line";
    let mut words: Vec<&str> = Vec::new();
    for word in positives.iter().filter_map(|expected| words_for(*expected)) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    // Behind a value a call or an index can always follow.
    if words.len() > 1 {
        words.retain(|word| *word != "`(`");
    }
    // Most rules name a format.
    if words.contains(&"a format") {
        words.retain(|word| *word != "`with`");
    }
    words.sort_by_key(|word| *word == LINE_END);
    words
}

/// What a rule is called in messages. None for what would only distract there.
fn words_for(expected: Rule) -> Option<&'static str> {
    Some(match expected {
        Rule::word | Rule::name | Rule::path | Rule::item_name => "a name",
        Rule::integer | Rule::float | Rule::digits => "a number",
        Rule::string | Rule::strings => "a string in double quotes",
        Rule::open_brace | Rule::declarations | Rule::statements | Rule::branch => "`{`",
        Rule::close_brace => "`}`",
        Rule::open_paren | Rule::parameters => "`(`",
        Rule::close_paren => "`)`",
        Rule::close_bracket => "`]`",
        Rule::comma => "`,`",
        Rule::colon => "`:`",
        Rule::equals => "`=`",
        Rule::arrow => "`=>`",
        Rule::range => "`..`",
        Rule::line_end | Rule::EOI => "the end of the line",
        Rule::kw_use => "`use`",
        Rule::kw_spec => "`spec`",
        Rule::kw_model => "`model`",
        Rule::kw_models
        | Rule::kw_rules
        | Rule::kw_rotate
        | Rule::kw_kv_cache
        | Rule::kw_tied
        | Rule::kw_table_basis
        | Rule::kw_compute => "a section",
        Rule::kw_extends => "`extends`",
        Rule::kw_with | Rule::with_input => "`with`",
        Rule::kw_of => "`of`",
        Rule::kw_by => "`by`",
        Rule::kw_offline => "`offline`",
        Rule::kw_in => "`in`",
        Rule::kw_else => "`else`",
        Rule::tensors => "`tensors`",
        Rule::config => "`config`",
        Rule::kw_input => "`input`",
        Rule::kw_optional => "`optional`",
        Rule::pattern | Rule::within => "a pattern",
        Rule::format | Rule::format_name => "a format",
        Rule::site => "a site",
        Rule::rotation_value | Rule::rotation_name => "a rotation",
        Rule::setting => "a word",
        Rule::expression | Rule::condition => "an expression",
        Rule::atom => "a value",
        Rule::argument => "an argument",
        Rule::subscript => "an index or `..`",
        Rule::infix => "an operator",
        Rule::declaration => "a declaration",
        Rule::statement => "a statement",
        _ => return None,
    })
}

/// Keywords and punctuation: rules only so that messages can name them.
pub(in crate::dsl) fn is_mark(part: Rule) -> bool {
    matches!(
        part,
        Rule::open_brace
            | Rule::close_brace
            | Rule::open_paren
            | Rule::close_paren
            | Rule::open_bracket
            | Rule::close_bracket
            | Rule::comma
            | Rule::colon
            | Rule::equals
            | Rule::arrow
            | Rule::range
            | Rule::line_end
            | Rule::kw_lathe
            | Rule::kw_spec
            | Rule::kw_model
            | Rule::kw_extends
            | Rule::kw_use
            | Rule::kw_models
            | Rule::kw_rules
            | Rule::kw_rotate
            | Rule::kw_kv_cache
            | Rule::kw_tied
            | Rule::kw_table_basis
            | Rule::kw_compute
            | Rule::kw_with
            | Rule::kw_input
            | Rule::kw_of
            | Rule::kw_by
            | Rule::kw_architectures
            | Rule::kw_let
            | Rule::kw_assert
            | Rule::kw_context
            | Rule::kw_repeat
            | Rule::kw_in
            | Rule::kw_if
            | Rule::kw_else
            | Rule::kw_ignore
            | Rule::kw_graph
            | Rule::kw_block
            | Rule::kw_alias
            | Rule::kw_for
            | Rule::kw_return
    )
}
