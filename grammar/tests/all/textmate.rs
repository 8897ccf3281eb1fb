//! As much of a TextMate engine as the grammar for editors needs: match, begin and end, captures, include.

use std::collections::HashMap;

use fancy_regex::{Captures, Regex};
use serde_json::Value;

/// For each line of a text, for each of its bytes, the scopes that it has, outermost first.
pub(crate) type Scopes = Vec<Vec<Vec<String>>>;

/// A grammar whose expressions all compile.
pub(crate) struct Grammar {
    root: Value,
    expressions: HashMap<String, Regex>,
}

impl Grammar {
    pub(crate) fn new(text: &str) -> Self {
        let root: Value = serde_json::from_str(text).expect("the grammar is JSON");
        let mut expressions = HashMap::new();
        collect(&root, &mut expressions);
        Grammar { root, expressions }
    }

    /// Scopes of a text, without the one of all Lathe, and how many regions are open at its end.
    pub(crate) fn scopes(&self, text: &str) -> (Scopes, usize) {
        let mut open: Vec<&Value> = vec![&self.root];
        let lines = text.lines().map(|line| self.line(line, &mut open)).collect();
        (lines, open.len() - 1)
    }

    fn line<'a>(&'a self, line: &str, open: &mut Vec<&'a Value>) -> Vec<Vec<String>> {
        let mut painted = vec![Vec::new(); line.len()];
        let mut paint = |range: std::ops::Range<usize>, scopes: &[&str]| {
            painted[range]
                .iter_mut()
                .for_each(|byte: &mut Vec<String>| byte.extend(scopes.iter().map(ToString::to_string)));
        };
        let mut at = 0;
        for _ in 0..10_000 {
            let region = *open.last().expect("the root stays open");
            let end = region.get("end").and_then(|end| Some((self.find(end, line, at)?, None)));
            let inner = self.rules(region).into_iter().filter_map(|rule| {
                let expression = rule.get("match").or(rule.get("begin"))?;
                Some((self.find(expression, line, at)?, Some(rule)))
            });
            // The first of those that begin first.
            let next = end.into_iter().chain(inner).min_by_key(|(found, _)| start(found));
            let outer = names(&open[1..]);
            let Some((found, rule)) = next else {
                paint(at..line.len(), &outer);
                return painted;
            };
            let whole = found.get(0).expect("group 0 is the match");
            paint(at..whole.start(), &outer);
            at = whole.end();
            let captures = match rule {
                None => {
                    let closed = open.pop().expect("only regions below the root have an end");
                    let mut scopes = names(&open[1..]);
                    scopes.extend(closed["name"].as_str());
                    paint(whole.range(), &scopes);
                    &closed["endCaptures"]
                }
                Some(rule) => {
                    let scopes: Vec<&str> = outer.into_iter().chain(rule["name"].as_str()).collect();
                    paint(whole.range(), &scopes);
                    if rule.get("begin").is_some() {
                        open.push(rule);
                        &rule["beginCaptures"]
                    } else {
                        &rule["captures"]
                    }
                }
            };
            for (group, capture) in captures.as_object().into_iter().flatten() {
                let group = found.get(group.parse().expect("captures are numbered"));
                paint(
                    group.map_or(0..0, |group| group.range()),
                    &[capture["name"].as_str().expect("captures have names")],
                );
            }
        }
        panic!("the grammar makes no progress on {line:?}");
    }

    /// The rules that may begin in a region, includes resolved.
    fn rules<'a>(&'a self, region: &'a Value) -> Vec<&'a Value> {
        let mut rules = Vec::new();
        for rule in region["patterns"].as_array().into_iter().flatten() {
            let rule = match rule["include"].as_str() {
                Some(name) => {
                    let name = name.strip_prefix('#').expect("includes are of the repository");
                    self.root["repository"].get(name).unwrap_or_else(|| panic!("#{name} is missing"))
                }
                None => rule,
            };
            if rule.get("match").or(rule.get("begin")).is_some() {
                rules.push(rule);
            } else {
                rules.extend(self.rules(rule));
            }
        }
        rules
    }

    fn find<'t>(&self, expression: &Value, line: &'t str, at: usize) -> Option<Captures<'t>> {
        let expression = &self.expressions[expression.as_str().expect("expressions are strings")];
        expression.captures_from_pos(line, at).expect("the expression does not run wild")
    }
}

fn start(found: &Captures) -> usize {
    found.get(0).map_or(usize::MAX, |whole| whole.start())
}

fn names<'a>(open: &[&'a Value]) -> Vec<&'a str> {
    open.iter().flat_map(|region| [region["name"].as_str(), region["contentName"].as_str()]).flatten().collect()
}

fn collect(value: &Value, expressions: &mut HashMap<String, Regex>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let ("match" | "begin" | "end", Value::String(text)) = (key.as_str(), value) {
                    let expression = Regex::new(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
                    expressions.insert(text.clone(), expression);
                }
                collect(value, expressions);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, expressions)),
        _ => {}
    }
}
