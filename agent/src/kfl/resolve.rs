//! From the parsed text to an expression whose names are slots: every name and function is known, every regular
//! expression compiled, every bound kept; or an error that says where and what to write.

use std::sync::Arc;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators as op,
};
use regex::RegexBuilder;

use super::error::KflError;
use super::interpret;
use super::names::{self, Kind};
use super::reserved;
use super::slot::Slot;

/// Nesting of a filter's expressions; chains such as `a + b + c` count as well, those of `&&` and `||` hardly.
pub(super) const DEPTH: usize = 48;
/// Parts of a filter.
pub(super) const NODES: usize = 1024;
/// `exists` and its like within one another.
const LOOPS: usize = 2;
/// Bytes of a compiled regular expression.
const REGEX: usize = 1 << 20;

/// CEL's functions, by name alone, and what they take besides the value that they are called on.
pub(super) const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    "map_get",
    "matches",
    "now",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
];
/// Macros, which the parser has made into something else; those left were called wrongly.
pub(super) const MACROS: &[&str] = &["all", "exists", "exists_one", "filter", "has", "map"];
/// Names of types.
const TYPES: &[&str] =
    &["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

/// What a filter's text becomes.
pub(super) struct Resolver<'a> {
    pub(super) text: &'a str,
    pub(super) info: &'a SourceInfo,
    pub(super) now: i64,
    pub(super) slots: Vec<Slot>,
    /// Variables of loops.
    pub(super) bound: Vec<String>,
    pub(super) loops: usize,
    pub(super) nodes: usize,
}

type Resolved = Result<Expr, KflError>;

impl Resolver<'_> {
    pub(super) fn expr(&mut self, expr: IdedExpr, depth: usize) -> Result<IdedExpr, KflError> {
        let IdedExpr { id, expr } = expr;
        self.nodes += 1;
        if depth > DEPTH || self.nodes > NODES {
            let bound = if depth > DEPTH { "nested too deeply" } else { "too long" };
            return Err(self.error(id, format!("the filter is {bound}: split it, or let the script decide")));
        }
        let expr = match expr {
            Expr::Literal(literal) => Expr::Literal(literal),
            Expr::Call(call) => self.call(id, call, depth)?,
            Expr::List(mut list) => {
                list.elements = self.all(list.elements, depth)?;
                Expr::List(list)
            }
            Expr::Map(mut map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        entry.key = self.expr(std::mem::take(&mut entry.key), depth + 1)?;
                        entry.value = self.expr(std::mem::take(&mut entry.value), depth + 1)?;
                    }
                }
                Expr::Map(map)
            }
            Expr::Comprehension(loops) => self.comprehension(id, *loops, depth)?,
            Expr::Ident(name) if self.is_bound(&name) || TYPES.contains(&name.as_str()) => Expr::Ident(name),
            Expr::Select(mut select) if self.path(&select.operand).is_none() => {
                *select.operand = self.expr(std::mem::take(&mut *select.operand), depth + 1)?;
                Expr::Select(select)
            }
            Expr::Select(select) if select.test => {
                let mut path = self.path(&select.operand).unwrap_or_default();
                path.push(select.field);
                self.name(id, &path, true)?
            }
            expr @ (Expr::Ident(_) | Expr::Select(_)) => {
                let whole = IdedExpr { id, expr };
                let path = self.path(&whole).unwrap_or_default();
                self.name(id, &path, false)?
            }
            Expr::Struct(_) => {
                return Err(self.error(id, "a filter makes no messages: remove the braces".to_owned()));
            }
            Expr::Unspecified => return Err(self.error(id, "something is missing here".to_owned())),
        };
        Ok(IdedExpr { id, expr })
    }

    fn all(&mut self, exprs: Vec<IdedExpr>, depth: usize) -> Result<Vec<IdedExpr>, KflError> {
        exprs.into_iter().map(|expr| self.expr(expr, depth + 1)).collect()
    }

    fn comprehension(&mut self, id: u64, mut loops: ComprehensionExpr, depth: usize) -> Resolved {
        loops.iter_range = self.expr(loops.iter_range, depth + 1)?;
        self.loops += 1;
        if self.loops > LOOPS {
            let message = format!("exists, all, map and filter can be nested {LOOPS} deep, not deeper");
            return Err(self.error(id, message));
        }
        let bound = self.bound.len();
        self.bound.push(loops.iter_var.clone());
        self.bound.extend(loops.iter_var2.clone());
        self.bound.push(loops.accu_var.clone());
        for part in [&mut loops.accu_init, &mut loops.loop_cond, &mut loops.loop_step, &mut loops.result] {
            *part = self.expr(std::mem::take(part), depth + 1)?;
        }
        self.bound.truncate(bound);
        self.loops -= 1;
        Ok(Expr::Comprehension(Box::new(loops)))
    }

    fn call(&mut self, id: u64, mut call: CallExpr, depth: usize) -> Resolved {
        if let Some(special) = self.special(id, &mut call, depth)? {
            return Ok(special);
        }
        let is_operator = !call.func_name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !is_operator && !FUNCTIONS.contains(&call.func_name.as_str()) {
            return Err(self.unknown_function(id, &call.func_name));
        }
        // The step of `map` and `filter` adds to its own result: the bound is that of the list.
        let accumulates = matches!(call.args.first(), Some(IdedExpr { expr: Expr::Ident(name), .. }) if name.starts_with('@'));
        if call.func_name == op::ADD && !accumulates {
            interpret::ADD.clone_into(&mut call.func_name);
        }
        if let Some(target) = call.target.take() {
            call.target = Some(Box::new(self.expr(*target, depth + 1)?));
        }
        call.args = self.all(call.args, depth)?;
        self.adapt(&mut call)?;
        Ok(Expr::Call(call))
    }

    /// Calls that become slots or other calls before their arguments are looked at.
    fn special(&mut self, id: u64, call: &mut CallExpr, depth: usize) -> Result<Option<Expr>, KflError> {
        match (call.func_name.as_str(), call.args.as_mut_slice()) {
            (op::INDEX, [_, _]) => {
                let whole = IdedExpr { id, expr: Expr::Call(call.clone()) };
                if let Some(path) = self.path(&whole) {
                    return self.name(id, &path, false).map(Some);
                }
            }
            (op::IN, [key, map]) => {
                if let (Some(key), Some(path)) = (text_of(key), self.path(map))
                    && let Some(name) = names::find(&path.join(".")).filter(|name| name.kind == Kind::Map)
                {
                    return Ok(Some(self.slot(Slot::HasMember(name, key))));
                }
            }
            (interpret::MAP_GET, [map, key, default]) if call.target.is_none() => {
                if let (Some(key), Some(path)) = (text_of(key), self.path(map))
                    && let Some(name) = names::find(&path.join(".")).filter(|name| name.kind == Kind::Map)
                {
                    let default = std::mem::take(default);
                    let has = self.slot(Slot::HasMember(name, key.clone()));
                    let value = self.slot(Slot::Member(name, key));
                    let otherwise = self.expr(default, depth + 1)?;
                    let args = [has, value].map(|expr| IdedExpr { id, expr }).into_iter().chain([otherwise]);
                    let conditional = op::CONDITIONAL.to_owned();
                    let call = CallExpr { func_name: conditional, target: None, args: args.collect() };
                    return Ok(Some(Expr::Call(call)));
                }
            }
            ("now", []) if call.target.is_none() => return Ok(Some(self.slot(Slot::Time(self.now)))),
            (op::EQUALS | op::NOT_EQUALS, [_, _]) => return self.null_test(id, call),
            ("matches", args) => {
                let pattern = match (&call.target, args) {
                    (Some(_), [pattern]) | (None, [_, pattern]) => pattern,
                    _ => {
                        return Err(
                            self.error(id, "matches takes one argument: path.matches(\"^/api/\")".to_owned())
                        );
                    }
                };
                let pattern = self.pattern(pattern)?;
                let pattern = IdedExpr { id, expr: self.slot(Slot::Pattern(pattern)) };
                call.args.pop();
                call.args.push(pattern);
                if let Some(target) = call.target.take() {
                    call.args.insert(0, *target);
                }
                interpret::MATCHES.clone_into(&mut call.func_name);
                let [text, _] = call.args.as_mut_slice() else { return Ok(None) };
                *text = self.expr(std::mem::take(text), depth + 1)?;
                self.as_text(&mut call.args[0]);
                return Ok(Some(Expr::Call(std::mem::take(call))));
            }
            _ => {}
        }
        Ok(None)
    }

    /// `response == null` asks whether there is one.
    fn null_test(&mut self, id: u64, call: &CallExpr) -> Result<Option<Expr>, KflError> {
        let [a, b] = call.args.as_slice() else { return Ok(None) };
        let is_null = |expr: &IdedExpr| matches!(expr.expr, Expr::Literal(LiteralValue::Null));
        let asked = match (is_null(a), is_null(b)) {
            (true, false) => b,
            (false, true) => a,
            _ => return Ok(None),
        };
        let Some(path) = self.path(asked) else { return Ok(None) };
        let has = self.name(asked.id, &path, true)?;
        if call.func_name == op::NOT_EQUALS {
            return Ok(Some(has));
        }
        let args = vec![IdedExpr { id, expr: has }];
        Ok(Some(Expr::Call(CallExpr { func_name: op::LOGICAL_NOT.to_owned(), target: None, args })))
    }

    fn pattern(&self, pattern: &IdedExpr) -> Result<Arc<regex::Regex>, KflError> {
        let Some(text) = text_of(pattern) else {
            let message = "the expression of matches has to be written out: path.matches(\"^/api/\")";
            return Err(self.error(pattern.id, message.to_owned()));
        };
        let regex = RegexBuilder::new(&text).size_limit(REGEX).dfa_size_limit(REGEX).nest_limit(32).build();
        regex.map(Arc::new).map_err(|error| {
            let cause = match error {
                regex::Error::CompiledTooBig(_) => "it is too large: bound its repetitions".to_owned(),
                error => error
                    .to_string()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned(),
            };
            self.error(pattern.id, format!("this is no regular expression (RE2 syntax): {cause}"))
        })
    }

    /// A name, or an entry of a map that a name stands for.
    fn name(&mut self, id: u64, path: &[String], test: bool) -> Resolved {
        for taken in (1..=path.len()).rev() {
            let Some(name) = names::find(&path[..taken].join(".")) else { continue };
            return match (&path[taken..], name.kind) {
                ([], _) if test => Ok(self.slot(Slot::Has(name))),
                ([], _) => Ok(self.slot(Slot::Read(name))),
                ([key], Kind::Map) if test => Ok(self.slot(Slot::HasMember(name, key.clone()))),
                ([key], Kind::Map) => Ok(self.slot(Slot::Member(name, key.clone()))),
                _ => Err(self.unknown_name(id, path)),
            };
        }
        Err(self.unknown_name(id, path))
    }

    pub(super) fn slot(&mut self, slot: Slot) -> Expr {
        self.slots.push(slot);
        Slot::ident(self.slots.len() - 1)
    }

    /// `a.b.c`, also written `a["b"].c`, if it begins with a name and not with a loop's variable.
    fn path(&self, expr: &IdedExpr) -> Option<Vec<String>> {
        let (mut at, mut path) = (expr, Vec::new());
        while path.len() <= 8 {
            match &at.expr {
                Expr::Ident(name) if self.is_bound(name) || name.starts_with('@') => return None,
                Expr::Ident(name) => {
                    let name = if name == reserved::STAND_IN { "namespace" } else { name.as_str() };
                    path.push(name.trim_start_matches('.').to_owned());
                    path.reverse();
                    return Some(path);
                }
                Expr::Select(select) if !select.test => {
                    path.push(select.field.clone());
                    at = &select.operand;
                }
                Expr::Call(CallExpr { func_name, args, target: None }) if func_name == op::INDEX => {
                    let [map, key] = args.as_slice() else { return None };
                    path.push(text_of(key)?);
                    at = map;
                }
                _ => return None,
            }
        }
        None
    }

    fn is_bound(&self, name: &str) -> bool {
        name.starts_with('@') || self.bound.iter().any(|bound| bound == name)
    }
}

fn text_of(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner().to_owned()),
        _ => None,
    }
}
