//! What scripts see: the objects `sys` and `req`, constants, and functions on texts and values.
//!
//! Everything is registered with its signature, as the documentation and the hints of error messages show it.

mod sys;
mod shape;
mod lookup;
mod clock;
mod req;
mod text;
mod values;

pub(crate) use values::show;

use crate::{DialResult, Limits};
use rhai::{FuncRegistration, INT, Module, RhaiNativeFunc, Scope, Variant};
use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

/// The objects that every script sees.
pub(crate) const OBJECTS: &[&str] = &["sys", "req"];

/// Names of objects and constants.
pub(crate) const NAMES: &[&str] = &[
    "sys",
    "req",
    "ANSWERED",
    "NO_ANSWER",
    "FAILED",
    "CLIENT_CANCELLED",
    "ADMIN_CANCELLED",
    "TIMED_OUT",
    "ERROR",
    "ALREADY_ANSWERED",
    "REDIRECT",
];

const RESULTS: [(&str, DialResult); 9] = [
    ("ANSWERED", DialResult::Answered),
    ("NO_ANSWER", DialResult::NoAnswer),
    ("FAILED", DialResult::Failed),
    ("CLIENT_CANCELLED", DialResult::ClientCancelled),
    ("ADMIN_CANCELLED", DialResult::AdminCancelled),
    ("TIMED_OUT", DialResult::TimedOut),
    ("ERROR", DialResult::Error),
    ("ALREADY_ANSWERED", DialResult::AlreadyAnswered),
    ("REDIRECT", DialResult::Redirect),
];

/// `sys`: what the switch does for a plan. It holds nothing: its functions find their run.
#[derive(Clone, Copy)]
pub(crate) struct Sys;

/// `req`: the request as it came. It holds nothing, either.
#[derive(Clone, Copy)]
pub(crate) struct Req;

struct Script {
    module: Arc<Module>,
    constants: Scope<'static>,
    signatures: Vec<&'static str>,
}

static SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    let mut registry = Registry { module: Module::new(), signatures: Vec::new() };
    registry.module.set_custom_type::<Sys>("sys").set_custom_type::<Req>("req");
    registry.module.set_var("sys", Sys).set_var("req", Req);
    let mut constants = Scope::new();
    constants.push_constant("sys", Sys).push_constant("req", Req);
    for (name, result) in RESULTS {
        registry.module.set_var(name, result.name());
        constants.push_constant(name, result.name());
    }
    sys::register(&mut registry);
    shape::register(&mut registry);
    lookup::register(&mut registry);
    clock::register(&mut registry);
    req::register(&mut registry);
    text::register(&mut registry);
    values::register(&mut registry);
    Script { module: registry.module.into(), constants, signatures: registry.signatures }
});

/// Names of functions with their numbers of parameters. Apart from [`SCRIPT`], for an engine is made out of that.
static FUNCTIONS: LazyLock<HashSet<(String, usize)>> = LazyLock::new(|| {
    let engine = crate::engine::engine(&Limits::default());
    let functions = engine.collect_fn_metadata(
        None,
        |function| Some((function.metadata.name.to_string(), function.metadata.num_params)),
        true,
    );
    functions.into_iter().collect()
});

/// The module with all of it.
pub(crate) fn module() -> Arc<Module> {
    SCRIPT.module.clone()
}

/// What a plan may name without declaring it.
pub(crate) fn constants() -> &'static Scope<'static> {
    &SCRIPT.constants
}

/// Every function and property of `sys`, `req`, texts and values: `sys.dial(targets, ring_secs) -> string`.
pub fn signatures() -> &'static [&'static str] {
    &SCRIPT.signatures
}

/// Collects functions and their signatures.
pub(crate) struct Registry {
    module: Module,
    signatures: Vec<&'static str>,
}

impl Registry {
    /// Registers what scripts write as `object.name(…)`.
    pub fn method<A: 'static, const N: usize, const X: bool, R: Variant + Clone, const F: bool, FUNC>(
        &mut self,
        signature: &'static str,
        function: FUNC,
    ) where
        FUNC: RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    {
        self.signatures.push(signature);
        self.hidden(name(signature), function);
    }

    /// Registers what scripts write as `object.name`.
    pub fn property<A: 'static, const N: usize, const X: bool, R: Variant + Clone, const F: bool, FUNC>(
        &mut self,
        signature: &'static str,
        function: FUNC,
    ) where
        FUNC: RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    {
        self.signatures.push(signature);
        let registration = FuncRegistration::new_getter(name(signature)).in_global_namespace().with_volatility(true);
        registration.set_into_module(&mut self.module, function);
    }

    /// Registers what stands in for a function of rhai's.
    pub fn hidden<A: 'static, const N: usize, const X: bool, R: Variant + Clone, const F: bool, FUNC>(
        &mut self,
        name: &str,
        function: FUNC,
    ) where
        FUNC: RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    {
        let registration = FuncRegistration::new(name).in_global_namespace().with_volatility(true);
        registration.set_into_module(&mut self.module, function);
    }

    /// Registers what changes its receiver, which then must not be a constant.
    pub fn changing<A: 'static, const N: usize, const X: bool, R: Variant + Clone, const F: bool, FUNC>(
        &mut self,
        name: &str,
        function: FUNC,
    ) where
        FUNC: RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    {
        let registration = FuncRegistration::new(name).in_global_namespace().with_purity(false);
        registration.set_into_module(&mut self.module, function);
    }
}

/// The object of a signature; empty for a plain function.
fn object(signature: &str) -> &str {
    signature.split(['(', ' ']).next().and_then(|head| head.split_once('.')).map_or("", |(object, _)| object)
}

/// The name in a signature.
fn name(signature: &str) -> &str {
    let head = signature.split(['(', ' ']).next().unwrap_or(signature);
    head.split_once('.').map_or(head, |(_, name)| name)
}

/// How many arguments a signature takes; None for a property.
fn arguments(signature: &str) -> Option<usize> {
    let end = signature.find(['(', ' '])?;
    let (list, _) = signature[end..].strip_prefix('(')?.split_once(')')?;
    Some(if list.is_empty() { 0 } else { list.split(',').count() })
}

/// Whether there is such a function.
pub(crate) fn exists(name: &str, parameters: usize) -> bool {
    FUNCTIONS.contains(&(name.to_owned(), parameters))
}

/// Whether there is such a function, with whatever arguments.
pub(crate) fn is_function(name: &str) -> bool {
    FUNCTIONS.iter().any(|(function, _)| function == name)
}

/// Whether an object has such a method.
pub(crate) fn has_method(object: &str, name: &str, count: usize) -> bool {
    members(object, name).any(|signature| arguments(signature) == Some(count))
}

/// Whether an object has such a property.
pub(crate) fn has_property(object: &str, name: &str) -> bool {
    members(object, name).any(|signature| arguments(signature).is_none())
}

fn members(of: &str, named: &str) -> impl Iterator<Item = &'static str> {
    signatures().iter().copied().filter(move |signature| object(signature) == of && name(signature) == named)
}

/// How to mend `object.name`, where it is not right.
pub(crate) fn like_member(of: &str, named: &str) -> Option<String> {
    let right: Vec<&str> = members(of, named).collect();
    if !right.is_empty() {
        return Some(format!("write {}", quoted(&right)));
    }
    nearest(named, signatures().iter().filter(|signature| object(signature) == of).map(|signature| name(signature)))
}

/// How to mend a call of `named`, where it is not right. `own` are the plan's functions.
pub(crate) fn like_function<'a>(named: &str, own: impl Iterator<Item = &'a str>) -> Option<String> {
    let right: Vec<&str> = signatures().iter().copied().filter(|signature| name(signature) == named).collect();
    if !right.is_empty() {
        return Some(format!("write {}", quoted(&right)));
    }
    nearest(named, own.chain(FUNCTIONS.iter().map(|(name, _)| name.as_str()).filter(|name| is_word(name))))
}

fn is_word(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn quoted(signatures: &[&str]) -> String {
    signatures.iter().map(|signature| format!("`{signature}`")).collect::<Vec<_>>().join(" or ")
}

/// `did you mean …?`, if one of `names` is near.
pub(crate) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let (distance, name) = names
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .min_by_key(|(distance, name)| (*distance, *name))?;
    (distance <= 1 + word.chars().count() / 4).then(|| format!("did you mean `{name}`?"))
}

/// A count as scripts have it.
pub(crate) fn int(count: impl TryInto<INT>) -> INT {
    count.try_into().unwrap_or(INT::MAX)
}
