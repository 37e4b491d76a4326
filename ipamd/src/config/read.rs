//! Reading values by key path and collecting every mistake on the way. A reader never fails: a bad value is recorded as a
//! [`Mistake`] and replaced by the default, so that one run over the file finds all there is to find. The result is used only
//! if no mistake was recorded.

use super::keys::Catalog;
use serde_json::Value;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Mistake {
    /// Path of the key, or `(file)` for the file as a whole.
    pub key: String,
    /// What is there and what would be right.
    pub problem: String,
}

pub(super) struct Reader {
    catalog: &'static Catalog,
    document: Value,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// A reader of `document`; keys that are not in the catalog and sections that are none are recorded at once.
    pub(super) fn new(document: Value, catalog: &'static Catalog) -> Self {
        let mut reader = Self { catalog, document: Value::Null, mistakes: Vec::new() };
        match document {
            Value::Null => {}
            Value::Object(_) => {
                reader.find_unknown(&document, "");
                reader.document = document;
            }
            other => reader.wrong("(file)", format!("is {}; expected keys and values", show(&other))),
        }
        reader
    }

    fn find_unknown(&mut self, section: &Value, prefix: &str) {
        let Value::Object(entries) = section else { return };
        for (name, value) in entries {
            let path = format!("{prefix}{name}");
            if self.catalog.sections.contains(&path.as_str()) {
                match value {
                    Value::Object(_) => self.find_unknown(value, &format!("{path}.")),
                    Value::Null => {}
                    other => self.wrong(&path, format!("is {}; expected a section of keys", show(other))),
                }
            } else if !self.catalog.keys.iter().any(|key| key.path == path) {
                self.wrong(&path, format!("is not a known key; expected {}", self.known_in(prefix)));
            }
        }
    }

    pub(super) fn wrong(&mut self, key: &str, problem: impl Into<String>) {
        self.mistakes.push(Mistake { key: key.to_owned(), problem: problem.into() });
    }

    /// Whether something is wrong with a key, or with an item of its list.
    pub(super) fn has_mistakes_in(&self, key: &str) -> bool {
        self.mistakes.iter().any(|mistake| mistake.key.starts_with(key))
    }

    pub(super) fn finish(self) -> Vec<Mistake> {
        self.mistakes
    }

    /// The value at `path`; an absent one, or a null one, is the default.
    fn value(&self, path: &str) -> Value {
        let found = path.split('.').try_fold(&self.document, |value, part| value.get(part));
        found.filter(|value| !value.is_null()).cloned().unwrap_or_else(|| self.default_of(path))
    }

    fn default_of(&self, path: &str) -> Value {
        let found = self.catalog.keys.iter().find(|key| key.path == path);
        let key = found.expect("only keys of the catalog are read, as a test shows");
        serde_saphyr::from_str(key.default).expect("a test parses every default")
    }

    fn known_in(&self, prefix: &str) -> String {
        let keys = self.catalog.keys.iter().filter_map(|key| key.path.strip_prefix(prefix));
        let mut names: Vec<&str> = keys.map(|rest| rest.split('.').next().unwrap_or(rest)).collect();
        names.dedup();
        names.join(", ")
    }

    /// Reads with `parse`, which says what was expected when it refuses.
    pub(super) fn read<T>(&mut self, path: &str, parse: impl Fn(&Value) -> Result<T, String>) -> T {
        let value = self.value(path);
        parse(&value).unwrap_or_else(|expected| {
            self.wrong(path, format!("is {}; expected {expected}", show(&value)));
            parse(&self.default_of(path)).expect("a test reads every default")
        })
    }

    pub(super) fn number(&mut self, path: &str, range: RangeInclusive<u32>) -> u32 {
        self.read(path, |value| whole(value, &range))
    }

    pub(super) fn optional_number(&mut self, path: &str, range: RangeInclusive<u32>) -> Option<u32> {
        self.read(path, |value| if value.is_null() { Ok(None) } else { whole(value, &range).map(Some) })
    }

    pub(super) fn flag(&mut self, path: &str) -> bool {
        self.read(path, |value| value.as_bool().ok_or_else(|| "true or false".to_owned()))
    }

    pub(super) fn text(&mut self, path: &str, expected: &str, fits: impl Fn(&str) -> bool) -> String {
        self.read(path, |value| {
            value.as_str().filter(|text| fits(text)).map(str::to_owned).ok_or_else(|| expected.to_owned())
        })
    }

    pub(super) fn choice<T: Copy>(&mut self, path: &str, choices: &[(&str, T)]) -> T {
        self.read(path, |value| one_of(value, choices))
    }

    pub(super) fn optional_choice<T: Copy>(&mut self, path: &str, choices: &[(&str, T)]) -> Option<T> {
        self.read(path, |value| if value.is_null() { Ok(None) } else { one_of(value, choices).map(Some) })
    }

    pub(super) fn path(&mut self, path: &str, longest: usize) -> PathBuf {
        self.read(path, |value| absolute(value, longest))
    }

    pub(super) fn optional_path(&mut self, path: &str, longest: usize) -> Option<PathBuf> {
        self.read(path, |value| if value.is_null() { Ok(None) } else { absolute(value, longest).map(Some) })
    }

    /// A list whose items are each parsed; every bad item is its own mistake, named by its index.
    pub(super) fn list<T>(&mut self, path: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let items = self.read(path, |value| value.as_array().cloned().ok_or_else(|| "a list".to_owned()));
        let mut list = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.as_str().ok_or_else(|| format!("is {}; expected a text", show(item))).and_then(&parse)
            {
                Ok(parsed) => list.push(parsed),
                Err(problem) => self.wrong(&format!("{path}[{index}]"), problem),
            }
        }
        list
    }

    pub(super) fn ids<T: FromStr<Err: Display>>(&mut self, path: &str) -> Vec<T> {
        self.list(path, |text| text.parse().map_err(|error: T::Err| error.to_string()))
    }
}

fn one_of<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| value.as_str() == Some(name));
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        format!("one of {}", choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "))
    })
}

fn whole(value: &Value, range: &RangeInclusive<u32>) -> Result<u32, String> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    let number = number.filter(|number| range.contains(number));
    number.ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

fn absolute(value: &Value, longest: usize) -> Result<PathBuf, String> {
    let fits = |text: &&str| text.starts_with('/') && text.len() <= longest && !text.contains('\0');
    value
        .as_str()
        .filter(fits)
        .map(PathBuf::from)
        .ok_or_else(|| format!("an absolute path of at most {longest} bytes"))
}

/// A value for a message: JSON, cut where a person stops reading.
fn show(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 {
        text
    } else {
        format!("{}…", text.chars().take(80).collect::<String>())
    }
}
