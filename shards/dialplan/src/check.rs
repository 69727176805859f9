//! What can be known to be wrong before a plan runs: functions and properties that do not exist.

use crate::{Fault, script};
use rhai::{AST, ASTNode, Expr, Position, Stmt};
use std::collections::HashSet;

/// Functions of the language itself, with any number of arguments.
const BUILT_IN: &[&str] = &["print", "debug", "type_of", "call", "is_def_var", "is_def_fn", "is_shared"];

/// Checks a plan as it was parsed, before anything is optimised away.
pub(crate) fn check(plan: &str, source: &str, ast: &AST) -> Result<(), Fault> {
    let mut keys = HashSet::new();
    ast.walk(&mut |path| {
        match path.last() {
            Some(ASTNode::Expr(Expr::Map(map, _))) => keys.extend(map.0.iter().map(|(key, _)| key.name.to_string())),
            Some(ASTNode::Expr(Expr::Property(property, _))) => drop(keys.insert(property.2.to_string())),
            _ => {}
        }
        true
    });
    let own: HashSet<(String, usize)> = ast.iter_functions().map(|f| (f.name.to_owned(), f.params.len())).collect();
    let checker = Checker { plan, source, keys, own };
    let mut found = None;
    ast.walk(&mut |path| {
        let node = path.last().expect("a path ends with its node");
        found = checker.node(node);
        found.is_none()
    });
    found.map_or(Ok(()), Err)
}

struct Checker<'a> {
    plan: &'a str,
    source: &'a str,
    /// Properties that maps have somewhere in the plan: a closure may be in them.
    keys: HashSet<String>,
    /// The plan's own functions with their numbers of parameters.
    own: HashSet<(String, usize)>,
}

impl Checker<'_> {
    fn node(&self, node: &ASTNode<'_>) -> Option<Fault> {
        match node {
            ASTNode::Expr(Expr::FnCall(call, place)) | ASTNode::Stmt(Stmt::FnCall(call, place)) => {
                self.function(&call.name, call.args.len(), *place)
            }
            ASTNode::Expr(Expr::Dot(dot, ..)) => self.dot(&dot.lhs, &dot.rhs),
            _ => None,
        }
    }

    fn function(&self, name: &str, arguments: usize, place: Position) -> Option<Fault> {
        let is_word = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if !is_word || self.exists(name, arguments) {
            return None;
        }
        Some(self.missing(name, arguments, place))
    }

    fn exists(&self, name: &str, arguments: usize) -> bool {
        BUILT_IN.contains(&name)
            || name.starts_with("anon$")
            || self.own.contains(&(name.to_owned(), arguments))
            || script::exists(name, arguments)
    }

    /// The first thing behind a dot.
    fn dot(&self, lhs: &Expr, rhs: &Expr) -> Option<Fault> {
        let first = match rhs {
            Expr::Dot(inner, ..) | Expr::Index(inner, ..) => &inner.lhs,
            other => other,
        };
        let receiver = match lhs {
            Expr::Variable(variable, ..) => script::OBJECTS.iter().find(|name| **name == variable.1.as_str()),
            _ => None,
        };
        match (first, receiver) {
            (Expr::MethodCall(call, place), Some(object)) => {
                let known = script::has_method(object, &call.name, call.args.len());
                (!known).then(|| self.missing_method(object, &call.name, *place))
            }
            (Expr::Property(property, place), Some(object)) => {
                let known = script::has_property(object, &property.2);
                (!known).then(|| self.missing_method(object, &property.2, *place))
            }
            (Expr::MethodCall(call, place), None) => {
                let (name, count) = (call.name.as_str(), call.args.len());
                let known = BUILT_IN.contains(&name) || script::exists(name, count + 1) || self.keys.contains(name);
                (!known).then(|| self.missing(name, count, *place))
            }
            _ => None,
        }
    }

    fn missing(&self, name: &str, arguments: usize, place: Position) -> Fault {
        let plural = if arguments == 1 { "" } else { "s" };
        if let Some((_, count)) = self.own.iter().find(|(own, _)| own == name) {
            let message = format!("`{name}` is not to be called like this, with {arguments} argument{plural}");
            let hint = format!("the plan's own function is called as `{name}(…)`, its parameters: {count}");
            return Fault::at(self.plan, self.source, place, &message, &hint);
        }
        let own = self.own.iter().map(|(name, _)| name.as_str());
        let hint = script::like_function(name, own).unwrap_or_default();
        let message = if script::is_function(name) {
            format!("`{name}` does not take {arguments} argument{plural}")
        } else {
            format!("there is no function `{name}`")
        };
        Fault::at(self.plan, self.source, place, &message, &hint)
    }

    fn missing_method(&self, object: &str, name: &str, place: Position) -> Fault {
        let hint = script::like_member(object, name).unwrap_or_default();
        let message = if hint.starts_with("write") {
            format!("`{object}.{name}` is not to be used like this")
        } else {
            format!("`{object}` has no `{name}`")
        };
        Fault::at(self.plan, self.source, place, &message, &hint)
    }
}
