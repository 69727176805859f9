//! A TOML document read key by key: every value with its place, every fault with its remedy.
//!
//! Reading never stops at a fault; the caller keeps the default there and learns of all faults at once.

use std::{
    cell::RefCell,
    fmt,
    ops::{Range, RangeInclusive},
};
use toml::de::{DeTable, DeValue};

/// Faults listed in one message; more are counted.
const MAX_SHOWN: usize = 20;

/// Why a value does not do, and what would.
pub(crate) struct Wrong {
    pub what: String,
    pub mend: String,
}

impl Wrong {
    pub fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into() }
    }
}

/// The integer types of the configuration's fields.
pub(super) trait Number: Copy + fmt::Display + PartialOrd + TryFrom<i128> {}
impl<N: Copy + fmt::Display + PartialOrd + TryFrom<i128>> Number for N {}

/// One fault and its place in the text.
#[derive(Debug)]
struct Fault {
    place: Range<usize>,
    what: String,
    mend: String,
}

/// All faults of a file, each with `file:line:column`, the line, a caret, and how to mend it.
#[derive(Debug)]
pub struct Faults {
    file: String,
    text: String,
    faults: Vec<Fault>,
}

/// Reads `text` by `schema`, which takes keys from the top section. `file` is what faults call it.
pub(super) fn read(file: &str, text: &str, schema: impl FnOnce(&mut Section<'_>)) -> Result<(), Faults> {
    let faults = RefCell::new(Vec::new());
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        Section::read(String::new(), root.get_ref(), &faults, schema);
    }
    let mut faults = faults.into_inner();
    // What the parser says behind its first fault mostly follows from it.
    faults.extend(errors.first().map(|error| {
        let mend = match error.message() {
            "duplicate key" => "remove one of the two",
            _ => "a line is `key = value`, `[section]` or `[[section]]`, with texts in \"quotes\" and lists in [brackets]",
        };
        Fault {
            place: error.span().unwrap_or(text.len()..text.len()),
            what: format!("this is not TOML: {}", error.message()),
            mend: mend.to_owned(),
        }
    }));
    if faults.is_empty() {
        return Ok(());
    }
    faults.sort_by_key(|fault| fault.place.start);
    Err(Faults { file: file.to_owned(), text: text.to_owned(), faults })
}

/// A table of the document, read once for each key that it may have.
pub(super) struct Section<'a> {
    /// Dotted name; empty at the top.
    name: String,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
    faults: &'a RefCell<Vec<Fault>>,
}

impl<'a> Section<'a> {
    /// Reads a table by `schema`; whatever `schema` did not ask for is unknown.
    fn read(
        name: String,
        table: &'a DeTable<'a>,
        faults: &'a RefCell<Vec<Fault>>,
        schema: impl FnOnce(&mut Section<'a>),
    ) {
        let mut section = Section { name, table, known: Vec::new(), faults };
        schema(&mut section);
        for key in table.keys().filter(|key| !section.known.contains(&&**key.get_ref())) {
            let name = key.get_ref();
            let what = match section.name.as_str() {
                "" => format!("unknown key `{name}`"),
                parent => format!("unknown key `{name}` in `{parent}`"),
            };
            section.fault(key.span(), Wrong::new(what, nearest(name, &section.known)));
        }
    }

    /// Whether the file gives `key`.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Blames the value of the first of `keys` that the file gives: all defaults together are right.
    pub fn blame(&self, keys: &[&str], wrong: Wrong) {
        let given = keys.iter().find_map(|key| self.table.get(*key)).expect("a fault comes from a key that is given");
        self.fault(given.span(), wrong);
    }

    /// Blames the section as a whole, at its first key.
    pub fn blame_all(&self, wrong: Wrong) {
        let start = self.table.iter().map(|(key, _)| key.span()).min_by_key(|span| span.start);
        self.fault(start.unwrap_or(0..0), wrong);
    }

    /// Whether the file gives `key` as a list.
    pub fn has_list(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_array())
    }

    /// Whether the file gives `key` as a list without anything in it.
    pub fn lists_nothing(&mut self, key: &'static str) -> bool {
        let lists_nothing =
            self.table.get(key).and_then(|value| value.get_ref().as_array()).is_some_and(|a| a.is_empty());
        if lists_nothing {
            self.known.push(key);
        }
        lists_nothing
    }

    /// A whole number.
    pub fn number<N: Number>(&mut self, key: &'static str, bounds: RangeInclusive<N>, into: &mut N) {
        self.value(key, into, |value| number(key, value, &bounds));
    }

    /// A whole number which has no default.
    pub fn number_if_given<N: Number>(&mut self, key: &'static str, bounds: RangeInclusive<N>, into: &mut Option<N>) {
        self.value(key, into, |value| number(key, value, &bounds).map(Some));
    }

    /// A whole number which is a power of two.
    pub fn power_of_two<N: Number + Into<i128>>(&mut self, key: &'static str, bounds: RangeInclusive<N>, into: &mut N) {
        self.value(key, into, |value| {
            let number: N = number(key, value, &bounds)?;
            let wide: i128 = number.into();
            if wide.count_ones() == 1 {
                return Ok(number);
            }
            let below = 1i128 << wide.ilog2();
            Err(Wrong::new(format!("`{key}` is a power of two, which {number} is not"), format!("use {below}")))
        });
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str, into: &mut bool) {
        self.value(key, into, |value| value.as_bool().ok_or_else(|| takes(key, "true or false", value, "true")));
    }

    /// A text which `parse` turns into what is wanted.
    pub fn text<T>(&mut self, key: &'static str, into: &mut T, parse: impl Fn(&str) -> Result<T, Wrong>) {
        self.value(key, into, |value| {
            parse(value.as_str().ok_or_else(|| takes(key, "a text in quotes", value, "\"…\""))?)
        });
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)], into: &mut T) {
        self.text(key, into, |text| choose(key, words, text));
    }

    /// A list of texts, none twice.
    pub fn texts<T: PartialEq>(
        &mut self,
        key: &'static str,
        into: &mut Vec<T>,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) {
        self.list(key, into, |value| {
            parse(value.as_str().ok_or_else(|| takes(key, "texts in quotes", value, "[\"…\", \"…\"]"))?)
        });
    }

    /// A list of whole numbers, none twice.
    pub fn numbers<N: Number>(&mut self, key: &'static str, bounds: RangeInclusive<N>, into: &mut Vec<N>) {
        self.list(key, into, |value| number(key, value, &bounds));
    }

    /// The table `[key]`, when the file has one.
    pub fn section(&mut self, key: &'static str, schema: impl FnOnce(&mut Section<'a>)) {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return };
        match value.get_ref() {
            DeValue::Table(table) => Section::read(self.path(key), table, self.faults, schema),
            other => self.fault(value.span(), takes_section(key, &format!("[{}]", self.path(key)), other)),
        }
    }

    /// The tables `[[key]]`, in order. Returns whether the file has any.
    pub fn sections(&mut self, key: &'static str, most: usize, mut schema: impl FnMut(&mut Section<'a>)) -> bool {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return false };
        let path = self.path(key);
        let Some(tables) = value.get_ref().as_array() else {
            self.fault(value.span(), takes_section(key, &format!("[[{path}]]"), value.get_ref()));
            return false;
        };
        if tables.is_empty() {
            let wrong = Wrong::new(format!("`{path}` lists nothing"), format!("remove this line, or write [[{path}]]"));
            self.fault(value.span(), wrong);
        }
        for (n, item) in tables.iter().enumerate() {
            match item.get_ref() {
                _ if n == most => {
                    let what = format!("`{path}` has {} entries", tables.len());
                    self.fault(item.span(), Wrong::new(what, format!("keep at most {most}")));
                }
                _ if n > most => break,
                DeValue::Table(table) => Section::read(path.clone(), table, self.faults, &mut schema),
                other => self.fault(item.span(), takes_section(key, &format!("[[{path}]]"), other)),
            }
        }
        !tables.is_empty()
    }

    fn list<T: PartialEq>(
        &mut self,
        key: &'static str,
        into: &mut Vec<T>,
        read: impl Fn(&DeValue<'a>) -> Result<T, Wrong>,
    ) {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return };
        let Some(items) = value.get_ref().as_array() else {
            return self.fault(value.span(), takes(key, "a list", value.get_ref(), "[…]"));
        };
        let mut list: Vec<T> = Vec::new();
        for item in items.iter() {
            match read(item.get_ref()) {
                Ok(read) if list.contains(&read) => {
                    self.fault(item.span(), Wrong::new(format!("`{key}` lists this twice"), "remove one of the two"));
                }
                Ok(read) => list.push(read),
                Err(wrong) => self.fault(item.span(), wrong),
            }
        }
        *into = list;
    }

    fn value<T>(&mut self, key: &'static str, into: &mut T, read: impl FnOnce(&DeValue<'a>) -> Result<T, Wrong>) {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return };
        match read(value.get_ref()) {
            Ok(read) => *into = read,
            Err(wrong) => self.fault(value.span(), wrong),
        }
    }

    fn fault(&self, place: Range<usize>, Wrong { what, mend }: Wrong) {
        self.faults.borrow_mut().push(Fault { place, what, mend });
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// The meaning of one of a few words.
pub(super) fn choose<T: Copy>(key: &str, words: &[(&'static str, T)], text: &str) -> Result<T, Wrong> {
    words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Wrong::new(format!("`{key}` cannot be \"{text}\""), nearest(text, &names))
    })
}

fn number<N: Number>(key: &str, value: &DeValue<'_>, bounds: &RangeInclusive<N>) -> Result<N, Wrong> {
    let (least, most) = (bounds.start(), bounds.end());
    let wanted = format!("a whole number from {least} to {most}");
    let integer = value.as_integer().ok_or_else(|| takes(key, &wanted, value, &least.to_string()))?;
    i128::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .and_then(|number| N::try_from(number).ok())
        .filter(|number| bounds.contains(number))
        .ok_or_else(|| Wrong::new(format!("`{key}` cannot be {integer}"), format!("use {wanted}")))
}

/// `example` is how such a value is written.
fn takes(key: &str, wanted: &str, given: &DeValue<'_>, example: &str) -> Wrong {
    let article = if matches!(given, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
    Wrong::new(
        format!("`{key}` takes {wanted}, not {article} {}", given.type_str()),
        format!("write it like `{key} = {example}`"),
    )
}

fn takes_section(key: &str, header: &str, given: &DeValue<'_>) -> Wrong {
    let what = match given {
        DeValue::Table(_) => format!("there may be several `{key}`, so its header has two brackets"),
        other => format!("`{key}` is a section, not a value of type {}", other.type_str()),
    };
    Wrong::new(what, format!("write {header} on a line of its own and its keys below"))
}

/// A suggestion among `names` for somebody who wrote `given`.
fn nearest(given: &str, names: &[&str]) -> String {
    let given = given.to_lowercase();
    let likeness = |name: &str| strsim::jaro_winkler(&given, &name.to_lowercase());
    let edits = |name: &str| strsim::osa_distance(&given, &name.to_lowercase());
    let near = names.iter().filter(|name| edits(name) <= 1 || likeness(name) > 0.8);
    match near.max_by(|a, b| edits(b).cmp(&edits(a)).then(likeness(a).total_cmp(&likeness(b)))) {
        Some(name) => format!("did you mean `{name}`?"),
        None => {
            let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("what can stand here: {}", quoted.join(", "))
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().take(MAX_SHOWN).enumerate() {
            if n > 0 {
                f.write_str("\n\n")?;
            }
            self.show(fault, f)?;
        }
        match self.faults.len().saturating_sub(MAX_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n\nand {more} more"),
        }
    }
}

impl std::error::Error for Faults {}

impl Faults {
    fn show(&self, fault: &Fault, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.text.floor_char_boundary(fault.place.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |newline| start + newline);
        let end = self.text.floor_char_boundary(fault.place.end.min(line_end)).max(start);

        let line = self.text[line_start..line_end].trim_end();
        let number = self.text[..start].matches('\n').count() + 1;
        let column = self.text[line_start..start].chars().count() + 1;
        let carets = "^".repeat(self.text[start..end].trim_end().chars().count().max(1));
        let gutter = " ".repeat(number.to_string().len());
        // Tabs stay tabs, so that the caret stands below its place.
        let indent: String = self.text[line_start..start].chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();

        writeln!(f, "{}:{number}:{column}: {}", self.file, fault.what)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {line}")?;
        writeln!(f, "{gutter} | {indent}{carets}")?;
        write!(f, "{gutter} = {}", fault.mend)
    }
}
