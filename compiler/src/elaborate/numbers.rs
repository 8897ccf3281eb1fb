//! Functions of numbers, lists and texts.

use super::Elaborator;
use super::arguments::Arguments;
use super::value::{Reported, Value};

/// A whole number made of a number. One that is whole stays as it is.
pub(super) fn of_one(
    elaborator: &mut Elaborator<'_>,
    arguments: &Arguments,
    function: fn(f64) -> f64,
) -> Result<Value, Reported> {
    let (value, span) = arguments.get(0);
    let x = match value {
        Value::Int(x) => return Ok(Value::Int(*x)),
        other => function(elaborator.number(other, span)?),
    };
    // Every f64 of a size below 2^63 is one of i64 once it is whole.
    if x.abs() < 9.2e18 {
        Ok(Value::Int(x as i64))
    } else {
        Err(elaborator.expected("a number below 2^63", value, span))
    }
}

/// A real number made of a number.
pub(super) fn real(
    elaborator: &mut Elaborator<'_>,
    arguments: &Arguments,
    function: fn(f64) -> f64,
) -> Result<Value, Reported> {
    let (value, span) = arguments.get(0);
    let x = function(elaborator.number(value, span)?);
    if x.is_finite() { Ok(Value::Float(x)) } else { Err(elaborator.expected("a number above 0", value, span)) }
}

/// One of two numbers: the first when `is_first` holds for the two.
pub(super) fn of_two(
    elaborator: &mut Elaborator<'_>,
    arguments: &Arguments,
    is_first: fn(f64, f64) -> bool,
) -> Result<Value, Reported> {
    let [(a, a_span), (b, b_span)] = [arguments.get(0), arguments.get(1)];
    let (x, y) = (elaborator.number(a, a_span)?, elaborator.number(b, b_span)?);
    Ok(if is_first(x, y) { a.clone() } else { b.clone() })
}

/// What holds of two texts.
pub(super) fn texts(
    elaborator: &mut Elaborator<'_>,
    arguments: &Arguments,
    holds: fn(&str, &str) -> bool,
) -> Result<Value, Reported> {
    match [arguments.get(0), arguments.get(1)] {
        [(Value::Str(a), _), (Value::Str(b), _)] => Ok(Value::Bool(holds(a, b))),
        [(Value::Str(_), _), (other, span)] | [(other, span), _] => Err(elaborator.expected("a text", other, span)),
    }
}

/// Whether a list has an element, or a text a part.
pub(super) fn contains(elaborator: &mut Elaborator<'_>, arguments: &Arguments) -> Result<Value, Reported> {
    let (items, span) = match arguments.get(0) {
        (Value::List(items), span) => (items, span),
        (Value::Str(_), _) => return texts(elaborator, arguments, |text, part| text.contains(part)),
        (other, span) => return Err(elaborator.expected("a list or a text", other, span)),
    };
    elaborator.work(items.len() as u64, span)?;
    for item in items.iter() {
        if elaborator.equal(item, arguments.get(1).0, span)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

/// How many elements a list has.
pub(super) fn length(elaborator: &mut Elaborator<'_>, arguments: &Arguments) -> Result<Value, Reported> {
    match arguments.get(0) {
        (Value::List(items), _) => Ok(Value::Int(items.len() as i64)),
        (other, span) => Err(elaborator.expected("a list", other, span)),
    }
}
