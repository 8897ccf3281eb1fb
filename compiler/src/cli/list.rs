//! `lathe list`

use std::fmt::Write as _;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::layout::{terminal_columns, wrap};
use super::{Failure, print};
use crate::reference::{TOPICS, Table, Topic};

/// List what ships inside this binary, and what its language has.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to list.
    #[arg(value_parser = topics())]
    what: &'static Topic,
}

fn topics() -> impl TypedValueParser<Value = &'static Topic> {
    let values = TOPICS.iter().map(|topic| PossibleValue::new(topic.name).help(topic.summary));
    PossibleValuesParser::new(values).map(|name| {
        let topic = TOPICS.iter().find(|topic| topic.name == name);
        topic.expect("the parser takes names of topics only")
    })
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    print(&text(&(arguments.what.table)(), terminal_columns()))
}

/// Narrowest last column that is wrapped to the terminal.
const LEAST_COLUMNS: usize = 24;

/// Aligned columns, two blanks between; the last one wrapped where the terminal has so many columns. Tables of three
/// columns and more have a line of heads.
fn text(table: &Table, columns: Option<usize>) -> String {
    let heads: Vec<String> = table.columns.iter().map(|head| head.to_uppercase()).collect();
    let rows = Some(&heads).filter(|heads| heads.len() > 2).into_iter().chain(&table.rows);
    let last = table.columns.len() - 1;
    let widths: Vec<usize> =
        (0..last).map(|column| rows.clone().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let indentation = widths.iter().map(|width| width + 2).sum::<usize>();
    let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(indentation).max(LEAST_COLUMNS));
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        // Writing to a string cannot fail.
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        line.push_str(&wrap(&row[last], room).join(&format!("\n{:indentation$}", "")));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_is_wrapped_to_the_terminal() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = vec![row(["a", "one two three four five six seven"]), row(["long", ""])];
        let table = Table { columns: &["name", "meaning"], rows };
        assert_eq!(text(&table, None), "a     one two three four five six seven\nlong\n");
        assert_eq!(text(&table, Some(1)), "a     one two three four five\n      six seven\nlong\n");
    }
}
