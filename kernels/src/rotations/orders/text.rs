//! Constructions as text.

use super::{Base, Construction, choice};
use crate::rotations::MAX_WIDTH;
use std::fmt;
use std::str::FromStr;

/// Between two factors.
const TIMES: &str = " * ";

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Base::Paley1 { q } => write!(f, "paley1({q})"),
            Base::Paley2 { q } => write!(f, "paley2({q})"),
            Base::GoethalsSeidel { order } => write!(f, "goethals_seidel({order})"),
        }
    }
}

impl fmt::Display for Construction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (base, _)) in self.bases.iter().enumerate() {
            write!(f, "{}{base}", if i > 0 { TIMES } else { "" })?;
        }
        match (self.bases.is_empty(), self.sylvester) {
            (false, 1) => Ok(()),
            (false, order) => write!(f, "{TIMES}sylvester({order})"),
            (true, order) => write!(f, "sylvester({order})"),
        }
    }
}

impl fmt::Debug for Construction {
    /// As text, without the entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a text is no construction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstructionError {
    /// Not a factor, spelled otherwise than it is written, or a Sylvester matrix that is not at the end.
    #[error("`{factor}` is no factor of a Hadamard matrix that can stand here")]
    Factor {
        /// Its text.
        factor: String,
    },
    /// The product is too large.
    #[error("a product of order above {MAX_WIDTH}")]
    Order,
}

impl FromStr for Construction {
    type Err = ConstructionError;

    /// Reads exactly what is written: no other spaces, no leading zeros, no factor of order 1 but alone.
    fn from_str(text: &str) -> Result<Construction, ConstructionError> {
        let (mut bases, mut sylvester) = (Vec::new(), 1);
        let mut factors = text.split(TIMES).peekable();
        let mut order = 1_usize;
        while let Some(factor) = factors.next() {
            let is_last = factors.peek().is_none();
            let unknown = || ConstructionError::Factor { factor: factor.to_owned() };
            let (name, argument) = factor.split_once('(').ok_or_else(unknown)?;
            let number: usize = argument.strip_suffix(')').and_then(|it| it.parse().ok()).ok_or_else(unknown)?;
            let base = match name {
                "paley1" => Base::Paley1 { q: number },
                "paley2" => Base::Paley2 { q: number },
                "goethals_seidel" => Base::GoethalsSeidel { order: number },
                "sylvester" if is_last && number.is_power_of_two() && (number > 1 || bases.is_empty()) => {
                    sylvester = number;
                    order = order.saturating_mul(number);
                    continue;
                }
                _ => return Err(unknown()),
            };
            if !choice::is_valid(base) || base.to_string() != factor {
                return Err(unknown());
            }
            order = order.saturating_mul(base.order());
            bases.push(base);
        }
        if order > MAX_WIDTH {
            return Err(ConstructionError::Order);
        }
        let construction = Construction::new(bases, sylvester);
        if construction.to_string() != text {
            return Err(ConstructionError::Factor { factor: text.to_owned() });
        }
        Ok(construction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constructions_are_read_as_they_are_written() {
        let texts = [
            "sylvester(1)",
            "sylvester(4096)",
            "paley1(11)",
            "paley1(27) * sylvester(512)",
            "paley2(461) * sylvester(32)",
            "paley1(11) * paley1(11) * sylvester(64)",
            // Nothing that is chosen, but a matrix.
            "paley2(5) * paley1(11) * sylvester(2)",
            "goethals_seidel(172) * sylvester(64)",
        ];
        for text in texts {
            assert_eq!(text.parse::<Construction>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
        for order in 1..2000 {
            if let Some(construction) = Construction::of(order) {
                assert_eq!(construction.order(), order);
                assert_eq!(construction.to_string().parse(), Ok(construction));
            }
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let texts = [
            "",
            "sylvester",
            "sylvester()",
            "sylvester(3)",
            "sylvester(0)",
            "Sylvester(4)",
            "sylvester(4) * paley1(11)",
            "paley1(11) * sylvester(1)",
            "paley1(11)*sylvester(4)",
            "paley1(011)",
            "paley1(+11)",
            "paley1(11) ",
            "paley1(11) * ",
            "paley1(13)",
            "paley1(15)",
            "paley2(11)",
            "paley2(45)",
            "paley1(18446744073709551615)",
            "goethals_seidel(100)",
            "hall(20)",
        ];
        for text in texts {
            assert!(matches!(text.parse::<Construction>(), Err(ConstructionError::Factor { .. })), "{text}");
        }
        // A base and a product that are too large.
        assert!("paley1(2039)".parse::<Construction>().is_ok() && "paley1(2063)".parse::<Construction>().is_err());
        for text in ["sylvester(2097152)", "paley1(1019) * paley1(1019) * sylvester(2)"] {
            assert_eq!(text.parse::<Construction>(), Err(ConstructionError::Order));
        }
    }
}
