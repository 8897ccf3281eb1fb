//! Tables of text that fit a terminal.

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// To the right, as numbers are.
    pub(super) right: bool,
    /// Left out when the table is too wide; the largest goes first. 0 stays.
    pub(super) dispensable: u8,
}

impl Column {
    pub(super) const fn left(title: &'static str, dispensable: u8) -> Self {
        Column { title, right: false, dispensable }
    }

    pub(super) const fn right(title: &'static str, dispensable: u8) -> Self {
        Column { title, right: true, dispensable }
    }
}

/// Between columns.
const GAP: &str = "  ";

/// Narrowest that a column is made by shortening its texts.
const NARROWEST: usize = 16;

/// Lays out rows of as many cells as there are columns. Columns without any text are left out; with a width, dispensable
/// ones too and texts are shortened until the lines fit. The second value names what was left out for the width.
pub(super) fn table(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> (String, Vec<&'static str>) {
    let used = |column: &usize| rows.iter().any(|row| !row[*column].is_empty());
    let mut shown: Vec<usize> = (0..columns.len()).filter(used).collect();
    let widths = |shown: &[usize]| -> Vec<usize> {
        let cells = |column: usize| rows.iter().map(move |row| characters(&row[column]));
        shown.iter().map(|&column| cells(column).max().unwrap_or(0).max(characters(columns[column].title))).collect()
    };
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
    let mut left_out = Vec::new();
    let mut layout = widths(&shown);
    if let Some(width) = width {
        while total(&layout) > width {
            let most = shown.iter().copied().filter(|column| columns[*column].dispensable > 0);
            let Some(drop) = most.max_by_key(|column| columns[*column].dispensable) else { break };
            shown.retain(|column| *column != drop);
            left_out.push(columns[drop].title);
            layout = widths(&shown);
        }
        while total(&layout) > width {
            // Numbers stay whole.
            let texts = layout.iter_mut().zip(&shown).filter(|(_, column)| !columns[**column].right);
            let Some(widest) = texts.map(|(width, _)| width).filter(|width| **width > NARROWEST).max() else { break };
            *widest -= 1;
        }
    }
    let mut text = String::new();
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for (&column, &width) in shown.iter().zip(&layout) {
            let cell = shortened(&row[column], width);
            let blanks = " ".repeat(width.saturating_sub(characters(&cell)));
            let separator = if line.is_empty() { "" } else { GAP };
            line.push_str(separator);
            line.push_str(&if columns[column].right { blanks + &cell } else { cell + &blanks });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    (text, left_out)
}

fn characters(text: &str) -> usize {
    text.chars().count()
}

/// With the middle left out when it is too wide.
fn shortened(text: &str, width: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= width || width < 3 {
        return text.to_owned();
    }
    let keep = width - 1;
    let (front, back) = (keep / 2, keep - keep / 2);
    let front: String = letters[..front].iter().collect();
    let back: String = letters[letters.len() - back..].iter().collect();
    format!("{front}…{back}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [Column::left("module", 0), Column::right("bytes", 0), Column::left("shape", 1)];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![row(["model.layers[0..32].self_attn.q_proj", "1", "[4096, 4096]"]), row(["lm_head", "22", ""])]
    }

    #[test]
    fn a_wide_terminal_shows_all() {
        let (text, left_out) = table(&COLUMNS, &rows(), Some(120));
        insta::assert_snapshot!(text, @r"
        module                                bytes  shape
        model.layers[0..32].self_attn.q_proj      1  [4096, 4096]
        lm_head                                  22
        ");
        assert!(left_out.is_empty());
        assert_eq!(table(&COLUMNS, &rows(), None).0, text);
    }

    #[test]
    fn a_narrow_one_what_fits() {
        let (text, left_out) = table(&COLUMNS, &rows(), Some(32));
        assert_eq!(left_out, ["shape"]);
        assert!(text.lines().all(|line| characters(line) <= 32), "{text}");
        assert!(text.contains("model.layers…") && text.contains("q_proj"), "{text}");
    }
}
