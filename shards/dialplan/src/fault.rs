//! A mistake in a plan, told like a compiler's: where, the line itself, what is wrong, and how to mend it.

use crate::{
    Limits,
    run::{Current, Over},
    script::{self, show},
};
use rhai::{EvalAltResult, LexError, ParseError, ParseErrorType, Position};
use std::fmt;

/// A mistake in a plan, or where a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The plan's name.
    pub plan: Box<str>,
    /// Line from 1; 0 where there is none to show.
    pub line: usize,
    /// Column from 1, in characters.
    pub column: usize,
    /// The line itself.
    pub text: Box<str>,
    /// What is wrong.
    pub message: Box<str>,
    /// How to mend it; empty where nothing better is known.
    pub hint: Box<str>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.plan, self.message)?;
        } else {
            let margin = self.line.to_string().len();
            let before = self.text.chars().take(self.column - 1);
            let lead: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            writeln!(f, "{}:{}:{}: {}", self.plan, self.line, self.column, self.message)?;
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{} | {}", self.line, self.text)?;
            write!(f, "{:margin$} | {lead}^", "")?;
        }
        if !self.hint.is_empty() {
            write!(f, "\n  = {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// A fault of the plan as a whole.
    pub(crate) fn of_plan(plan: &str, message: &str) -> Self {
        Self { plan: plan.into(), line: 0, column: 0, text: "".into(), message: message.into(), hint: "".into() }
    }

    /// A fault at a place of the source.
    pub(crate) fn at(plan: &str, source: &str, place: Position, message: &str, hint: &str) -> Self {
        let mut fault = Self::of_plan(plan, message);
        fault.hint = hint.into();
        if let Some(line) = place.line() {
            fault.line = line;
            fault.column = place.position().unwrap_or(1).max(1);
            fault.text = source.lines().nth(line - 1).unwrap_or_default().into();
        }
        fault
    }
}

/// A mistake that the parser found.
pub(crate) fn of_parse(plan: &str, source: &str, error: &ParseError, limits: &Limits) -> Fault {
    use ParseErrorType as E;
    let mut message = lower(&error.err_type().to_string());
    let mut hint = String::new();
    match error.err_type() {
        E::UnexpectedEOF => message = "the plan ends in the middle of something".to_owned(),
        E::VariableUndefined(name) => {
            message = format!("there is no variable `{name}`");
            hint = script::nearest(name, script::NAMES.iter().copied().chain(declared(source)))
                .unwrap_or_else(|| format!("write `let {name} = …;` before, or quotes around it if it is a text"));
        }
        E::MissingToken(token, _) => hint = format!("add `{token}`"),
        E::Reserved(word) => message = format!("a plan cannot use `{word}`"),
        E::BadInput(LexError::UnterminatedString) => {
            "end the text with the quote that it began with".clone_into(&mut hint)
        }
        E::BadInput(LexError::ImproperSymbol(symbol, _)) if matches!(symbol.as_str(), "this" | "curry" | "Fn") => {
            message = format!("a plan cannot use `{symbol}`");
        }
        E::ExprTooDeep => {
            message = format!("this nests more than {} levels deep (`max_expr_depth`)", limits.max_expr_depth);
            "give a part of it a name with `let`".clone_into(&mut hint);
        }
        E::TooManyFunctions => message = format!("more than {} functions (`max_functions`)", limits.max_functions),
        _ => {}
    }
    Fault::at(plan, source, error.position(), &message, &hint)
}

/// What ended a run. None if it was not at fault.
pub(crate) fn of_run(plan: &str, source: &str, error: &EvalAltResult, current: &Current) -> Option<Fault> {
    use EvalAltResult as E;
    let inner = error.unwrap_inner();
    let mut hint = String::new();
    let limits = &current.limits;
    let message = match (inner, &current.over) {
        (_, Some(Over::Done(..))) | (E::Exit(..), _) => return None,
        (_, Some(Over::Limit(limit))) => limit.told(limits).to_string(),
        (E::ErrorRuntime(value, _), _) => {
            let value = show(value, limits.max_log_line_bytes);
            if value.is_empty() { "the plan threw an error".to_owned() } else { value }
        }
        (E::ErrorFunctionNotFound(call, _), _) => {
            let (name, types) = call.split_once(" (").unwrap_or((call, ")"));
            hint = script::like_function(name, declared(source)).unwrap_or_default();
            format!("there is no `{name}` for ({}", plain(types))
        }
        (E::ErrorVariableNotFound(name, _), _) => {
            hint = script::nearest(name, script::NAMES.iter().copied().chain(declared(source))).unwrap_or_default();
            format!("there is no variable `{name}`; functions see `sys`, `req` and their parameters only")
        }
        (E::ErrorStackOverflow(_), _) => {
            format!("functions call each other more than {} levels deep (`max_call_levels`)", limits.max_call_levels)
        }
        (E::ErrorTooManyVariables(_), _) => format!("more than {} variables (`max_variables`)", limits.max_variables),
        (E::ErrorDataTooLarge(what, _), _) => match what.as_str() {
            "Length of string" => format!("texts of more than {} octets (`max_string_bytes`)", limits.max_string_bytes),
            "Size of object map" => format!("a map of more than {} items (`max_map_items`)", limits.max_map_items),
            _ => format!("an array of more than {} items (`max_array_items`)", limits.max_array_items),
        },
        _ => {
            let told = inner.to_string();
            lower(told.strip_suffix(&format!(" ({})", inner.position())).unwrap_or(&told))
        }
    };
    if hint.is_empty() && error.position() != inner.position() && !error.position().is_none() {
        hint = format!("in a function that {} calls", error.position());
    }
    let place = if inner.position().is_none() { error.position() } else { inner.position() };
    Some(Fault::at(plan, source, place, &message, &hint))
}

/// Types as plans know them.
fn plain(types: &str) -> String {
    types.replace("&str | ImmutableString | String", "string").replace("i64", "int").replace("f64", "float")
}

/// Names that a source declares: variables, constants, functions, parameters. Wide rather than exact.
fn declared(source: &str) -> impl Iterator<Item = &str> {
    let mut before = "";
    source.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).filter(move |word| {
        let declares = matches!(before, "let" | "const" | "fn" | "for");
        before = word;
        declares
    })
}

/// rhai begins its messages with a capital; ours go on after a colon.
fn lower(message: &str) -> String {
    let mut chars = message.chars();
    match (chars.next(), message.chars().nth(1)) {
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => message.to_owned(),
    }
}
