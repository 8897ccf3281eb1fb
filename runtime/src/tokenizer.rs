//! Text to tokens and back, by the tokenizer that comes with the model.

use std::path::{Path, PathBuf};

/// Why text cannot be turned into tokens or back.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file that is no tokenizer.
    #[error("{}: {message}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the library says.
        message: String,
    },
    /// Text that cannot be encoded.
    #[error("cannot encode the text: {message}")]
    Encode {
        /// What the library says.
        message: String,
    },
    /// Tokens that cannot be decoded.
    #[error("cannot decode the tokens: {message}")]
    Decode {
        /// What the library says.
        message: String,
    },
}

/// A tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Truncation and padding that it asks for are left out: they are for training.
    pub fn open(path: &Path) -> Result<Tokenizer, TokenizerError> {
        let failed =
            |error: tokenizers::Error| TokenizerError::Load { path: path.to_owned(), message: error.to_string() };
        let mut inner = tokenizers::Tokenizer::from_file(path).map_err(failed)?;
        inner.with_truncation(None).map_err(failed)?;
        inner.with_padding(None);
        Ok(Tokenizer { inner })
    }

    /// The tokens of a text; `special` adds those that the model expects around it, such as a first token.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, special);
        let encoding = encoding.map_err(|error| TokenizerError::Encode { message: error.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The token that reads exactly so, special or not.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// The text of tokens, without special ones.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        let text = self.inner.decode(tokens, true);
        text.map_err(|error| TokenizerError::Decode { message: error.to_string() })
    }

    /// Decodes tokens that come one by one, after those of `prompt`.
    pub fn stream(&self, prompt: &[u32]) -> Result<TextStream<'_>, TokenizerError> {
        // What a token reads as depends on a few before it (a space at the start, a character in several tokens).
        let window = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        let shown = self.decode(&window)?;
        Ok(TextStream { tokenizer: self, context: window.len(), window, shown })
    }
}

/// Tokens that are decoded again with each new one.
const CONTEXT: usize = 8;
/// Tokens after which text is shown even if it ends in the replacement character: no character has more bytes than 4,
/// so the bytes before are no text.
const MAX_PENDING: usize = 8;

/// Text of tokens that come one by one, in whole characters.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens whose text is known, then tokens that are waiting for the rest of a character.
    window: Vec<u32>,
    /// How many tokens of the window have been shown.
    context: usize,
    /// Their text.
    shown: String,
}

impl TextStream<'_> {
    /// The text that a token completes; empty in the middle of a character.
    pub fn push(&mut self, token: u32) -> Result<String, TokenizerError> {
        self.window.push(token);
        let text = self.tokenizer.decode(&self.window)?;
        let waits = text.ends_with(char::REPLACEMENT_CHARACTER) && self.window.len() - self.context < MAX_PENDING;
        if waits { Ok(String::new()) } else { self.show(&text) }
    }

    /// The text of tokens that wait for the rest of a character that will not come.
    pub fn finish(mut self) -> Result<String, TokenizerError> {
        let text = self.tokenizer.decode(&self.window)?;
        self.show(&text)
    }

    /// What `text`, that of the window, adds to what has been shown. Moves the window on.
    fn show(&mut self, text: &str) -> Result<String, TokenizerError> {
        let common = text.chars().zip(self.shown.chars()).take_while(|(a, b)| a == b);
        let known: usize = common.map(|(character, _)| character.len_utf8()).sum();
        let new = text[known..].to_owned();
        self.window.drain(..self.window.len().saturating_sub(CONTEXT));
        self.context = self.window.len();
        self.shown = self.tokenizer.decode(&self.window)?;
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tokenizer_json;

    fn tokenizer() -> Tokenizer {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, tokenizer_json()).unwrap();
        Tokenizer::open(&path).unwrap()
    }

    /// What each token adds, then what is left at the end.
    fn streamed(tokenizer: &Tokenizer, prompt: &[u32], tokens: &[u32]) -> Vec<String> {
        let mut stream = tokenizer.stream(prompt).unwrap();
        let mut pieces: Vec<String> = tokens.iter().map(|&token| stream.push(token).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        pieces
    }

    #[test]
    fn text_is_neither_truncated_nor_padded() {
        let tokenizer = tokenizer();
        assert_eq!(tokenizer.encode("abc abc", false).unwrap(), [2, 3, 4, 28, 2, 3, 4]);
        assert_eq!(tokenizer.encode("abc", true).unwrap(), [0, 2, 3, 4]);
        assert_eq!(tokenizer.decode(&[0, 2, 3, 28, 29, 30, 1]).unwrap(), "ab é");
        assert_eq!((tokenizer.token("b"), tokenizer.token("no such token")), (Some(3), None));
    }

    #[test]
    fn characters_come_whole() {
        let tokenizer = tokenizer();
        assert_eq!(streamed(&tokenizer, &[2, 3], &[4, 29, 30, 5, 31, 32, 33]), ["c", "", "é", "d", "", "", "㡢", ""]);
        assert_eq!(streamed(&tokenizer, &[], &[2, 28, 29]), ["a", " ", "", "\u{fffd}"]);
        assert_eq!(streamed(&tokenizer, &[29], &[30, 2]), ["é", "a", ""]);
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hold_up_the_rest() {
        let tokenizer = tokenizer();
        let tokens = [30; 40];
        let pieces = streamed(&tokenizer, &[], &tokens);
        assert_eq!(pieces.concat(), tokenizer.decode(&tokens).unwrap());
        assert!(pieces.iter().all(|piece| piece.chars().count() <= MAX_PENDING));
    }

    #[test]
    fn a_stream_says_what_decoding_at_once_says() {
        let tokenizer = tokenizer();
        let text = "the quick é brown. fox, 㡢é jumps é over 1 lazy dog".repeat(4);
        let tokens = tokenizer.encode(&text, false).unwrap();
        assert_eq!(streamed(&tokenizer, &[], &tokens).concat(), text);
        assert_eq!(
            tokenizer.decode(&tokens[..17]).unwrap() + &streamed(&tokenizer, &tokens[..17], &tokens[17..]).concat(),
            text
        );
    }

    #[test]
    fn a_broken_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "{}").unwrap();
        assert!(Tokenizer::open(&path).unwrap_err().to_string().contains("tokenizer.json: "));
        assert!(Tokenizer::open(&folder.path().join("none")).is_err());
    }
}
