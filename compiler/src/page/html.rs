//! Text of a page as it grows.

use std::fmt::{self, Write as _};

/// The name of a column.
pub(super) enum Column {
    Text(&'static str),
    /// Of numbers: set flush right.
    Number(&'static str),
}

/// A number as the script of the page reads it.
pub(super) struct Number(pub(super) f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("Infinity"),
            f64::NEG_INFINITY => f.write_str("-Infinity"),
            number => write!(f, "{number}"),
        }
    }
}

/// HTML. What comes from files is put in as [`crate::picture::text::Escaped`].
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    pub(super) fn put(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(text);
    }

    /// Opens a section with a title.
    pub(super) fn open(&mut self, id: &str, title: &str) {
        self.put(format_args!(
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{title}</h2>\n"
        ));
    }

    pub(super) fn close(&mut self) {
        self.put(format_args!("</section>\n"));
    }

    /// Opens a table that scrolls sideways where it is too wide.
    pub(super) fn open_table(&mut self, class: &str, caption: &str, columns: &[Column]) {
        self.put(format_args!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\">\n<table class=\"{class}\">\n<caption>{caption}</caption>\n<thead><tr>"
        ));
        for column in columns {
            match column {
                Column::Text(name) => self.put(format_args!("<th scope=\"col\">{name}</th>")),
                Column::Number(name) => self.put(format_args!("<th scope=\"col\" class=\"n\">{name}</th>")),
            }
        }
        self.put(format_args!("</tr></thead>\n<tbody>\n"));
    }

    pub(super) fn close_table(&mut self) {
        self.put(format_args!("</tbody>\n</table>\n</div>\n"));
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}
