//! Schedules as text: a line for each launch, which names the steps that it computes.

use std::fmt;

use super::{Call, Finish, Form, Forms, Head, HeadTo, Launch, Norm, Schedule, Turn};
use crate::program::{Index, Program};

/// A schedule of a program, for people and tests.
pub(crate) struct Listing<'a> {
    pub(crate) program: &'a Program,
    pub(crate) schedule: &'a Schedule,
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for launch in &self.schedule.launches {
            let labels: Vec<&str> = launch.steps.iter().map(|&step| self.program.steps[step].label.as_str()).collect();
            writeln!(f, "{}", format!("{:<44} {}", self.text(launch), labels.join(", ")).trim_end())?;
        }
        Ok(())
    }
}

impl Listing<'_> {
    fn text(&self, launch: &Launch) -> String {
        let op = |step: usize| self.program.steps[step].op.kernel();
        match &launch.call {
            Call::Angles(rope) => format!("angles {}", rope.0),
            Call::Embed { index: Index::Tokens, .. } => "embed tokens".to_owned(),
            Call::Embed { index: Index::Positions, .. } => "embed positions".to_owned(),
            Call::Rows { add, sum, norm, turn, forms, .. } => {
                let add = add.map(|_| if sum.is_some() { "add (kept)" } else { "add" });
                let does = [add, norm.map(|norm| name(&norm)), turn.map(turn_name)];
                let does: Vec<&str> = does.into_iter().flatten().collect();
                format!("rows: {}{}", does.join(", "), forms_text(*forms))
            }
            Call::Round { form, .. } => format!("round{}", form_text(*form)),
            Call::Product { x, norm, parts, finish } => {
                let before = match (norm, x.within, x.form) {
                    (Some(_), _, Form::Int8 { .. }) => "norm, round, ",
                    (Some(_), _, _) => "norm, ",
                    (None, true, _) => "round, ",
                    (None, false, _) => "",
                };
                let parts = if parts.len() == 1 { String::new() } else { format!(" × {}", parts.len()) };
                let finish = match finish {
                    Finish::Store => String::new(),
                    Finish::Add(_) => ", add".to_owned(),
                    Finish::Gated(function, _, forms) => format!(", {} gated{}", function.name(), forms_text(*forms)),
                };
                format!("product: {before}{}{parts}{finish}", of_form(x.form))
            }
            Call::Experts { x, .. } => format!("experts: {}", of_form(x.form)),
            Call::Heads { heads, .. } => {
                let parts: Vec<String> = heads.iter().map(head_text).collect();
                format!("heads: {}", parts.join("; "))
            }
            Call::Attention { forms, .. } => format!("attention{}", forms_text(*forms)),
            Call::Step { step, forms } => format!("{}{}", op(*step), forms_text(*forms)),
        }
    }
}

fn name(norm: &Norm) -> &'static str {
    if norm.centre { "centred norm" } else { "norm" }
}

fn turn_name((_, inverse): Turn) -> &'static str {
    if inverse { "rotate back" } else { "rotate" }
}

fn head_text(head: &Head) -> String {
    let to = match head.to {
        HeadTo::Buffer(_) => "buffer",
        HeadTo::Keys(_) => "keys",
        HeadTo::Values(_) => "values",
    };
    let does = [head.norm.map(|norm| name(&norm)), head.rope.map(|_| "rope"), head.turn.map(turn_name)];
    does.into_iter().flatten().chain([to]).collect::<Vec<_>>().join(" ")
}

/// What is written, where that is not just f32.
fn forms_text(forms: Forms) -> String {
    let texts: Vec<&str> = forms.iter().map(of_form).collect();
    if forms == Forms::REAL { String::new() } else { format!(" → {}", texts.join(", ")) }
}

fn form_text(form: Form) -> String {
    match form {
        Form::Int8 { parts } if parts > 1 => format!(" → {parts} × int8"),
        _ => format!(" → {}", of_form(form)),
    }
}

fn of_form(form: Form) -> &'static str {
    match form {
        Form::Real => "f32",
        Form::Bf16 => "bf16",
        Form::Int8 { .. } => "int8",
    }
}
