//! A plan: a script compiled once per version and shared by all its runs.

use crate::{Fault, Limits, check, engine::engine, fault, run::Current, script};
use regex::Regex;
use rhai::{AST, EvalAltResult, OptimizationLevel};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Regular expressions that a plan keeps compiled. Those beyond are compiled whenever they are used.
const MAX_PATTERNS: usize = 16;

/// A compiled plan. Clones share it; a run holds the one that it began with.
#[derive(Clone)]
pub struct Plan(Arc<Compiled>);

struct Compiled {
    name: Box<str>,
    source: Box<str>,
    ast: AST,
    patterns: Mutex<HashMap<Box<str>, Arc<Regex>>>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Plan").field(&self.0.name).finish()
    }
}

impl Plan {
    /// Compiles `source`. `name` is what its author calls it: it opens each of his messages.
    pub fn compile(name: &str, source: &str, limits: &Limits) -> Result<Self, Fault> {
        if source.len() > limits.max_source_bytes {
            let what = format!("the plan has more than {} octets (`max_source_bytes`)", limits.max_source_bytes);
            return Err(Fault::of_plan(name, &what));
        }
        let mut engine = engine(limits);
        engine.set_optimization_level(OptimizationLevel::None);
        let ast = engine
            .compile_with_scope(script::constants(), source)
            .map_err(|error| fault::of_parse(name, source, &error, limits))?;
        check::check(name, source, &ast)?;
        let ast = engine.optimize_ast(script::constants(), ast, OptimizationLevel::Simple);
        let patterns = Mutex::default();
        Ok(Self(Arc::new(Compiled { name: name.into(), source: source.into(), ast, patterns })))
    }

    /// What its author calls it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn ast(&self) -> &AST {
        &self.0.ast
    }

    pub(crate) fn fault(&self, error: &EvalAltResult, current: &Current) -> Option<Box<Fault>> {
        fault::of_run(&self.0.name, &self.0.source, error, current).map(Box::new)
    }

    /// The compiled form of a pattern.
    pub(crate) fn pattern(&self, pattern: &str) -> Result<Arc<Regex>, regex::Error> {
        let mut patterns = self.0.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = patterns.get(pattern) {
            return Ok(Arc::clone(regex));
        }
        let regex =
            regex::RegexBuilder::new(pattern).size_limit(64 * 1024).dfa_size_limit(64 * 1024).nest_limit(32).build()?;
        let regex = Arc::new(regex);
        if patterns.len() < MAX_PATTERNS {
            patterns.insert(pattern.into(), Arc::clone(&regex));
        }
        Ok(regex)
    }
}
