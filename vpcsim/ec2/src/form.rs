//! The request side of the Query protocol: `application/x-www-form-urlencoded` bytes into named parameters. A parameter is
//! *taken*: what no action has taken at the end is unknown to it, which EC2 refuses. Lists are `Name.1`, `Name.2`, …, structures
//! `Name.1.Part`. Never panics, whatever the bytes.

use crate::error::{ApiError, Code};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Most parameters of one request; EC2's lists end at 1,000 entries.
const MAX_PARAMETERS: usize = 4_000;

/// Parameters that no action has taken yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params {
    /// What stands before each name in the request: empty, or `Filter.1.` for the parts of a structure.
    prefix: String,
    left: BTreeMap<String, String>,
}

impl Params {
    /// The parameters of a request body.
    pub(crate) fn parse(form: &[u8]) -> Result<Self, ApiError> {
        let mut left = BTreeMap::new();
        for pair in form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (decode(&pair[..at])?, decode(&pair[at + 1..])?),
                None => (decode(pair)?, String::new()),
            };
            if name.is_empty() {
                return Err(malformed("a parameter has no name"));
            }
            if left.insert(name, value).is_some() {
                return Err(malformed("a parameter appears twice"));
            }
            if left.len() > MAX_PARAMETERS {
                return Err(malformed("there are too many parameters"));
            }
        }
        Ok(Self { prefix: String::new(), left })
    }

    /// The parameters in short, for the record.
    pub(crate) fn summary(&self, longest: usize) -> String {
        let mut summary = String::new();
        for (name, value) in &self.left {
            if name == "Action" || name == "Version" {
                continue;
            }
            let joint = if summary.is_empty() { "" } else { " " };
            summary.push_str(&format!("{joint}{name}={value}"));
            if summary.len() > longest {
                let cut: String = summary.chars().take(longest).collect();
                return cut + "…";
            }
        }
        summary
    }

    pub(crate) fn peek(&self, name: &str) -> Option<&str> {
        self.left.get(name).map(String::as_str)
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.left.remove(name)
    }

    pub(crate) fn required(&mut self, name: &str) -> Result<String, ApiError> {
        self.text(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| ApiError::missing(&format!("{}{name}", self.prefix)))
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(value) = self.text(name) else { return Ok(None) };
        match value.as_str() {
            "true" | "True" | "TRUE" | "1" => Ok(Some(true)),
            "false" | "False" | "FALSE" | "0" => Ok(Some(false)),
            _ => Err(self.invalid(name, &value, "Expecting a boolean.")),
        }
    }

    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, ApiError> {
        let Some(value) = self.text(name) else { return Ok(None) };
        let number = value.parse().ok().filter(|number| range.contains(number));
        let problem = || format!("Expecting an integer from {} to {}.", range.start(), range.end());
        number.map(Some).ok_or_else(|| self.invalid(name, &value, &problem()))
    }

    /// The texts `Name.1`, `Name.2`, … in the order of their numbers.
    pub(crate) fn list(&mut self, name: &str) -> Result<Vec<String>, ApiError> {
        let mut items = BTreeMap::new();
        for (key, index, rest) in self.indexed(name)? {
            if rest.is_none() {
                items.insert(index, self.left.remove(&key).unwrap_or_default());
            }
        }
        Ok(items.into_values().collect())
    }

    /// The structures `Name.1.….`, `Name.2.….`, … in the order of their numbers.
    pub(crate) fn structures(&mut self, name: &str) -> Result<Vec<Self>, ApiError> {
        let mut items: BTreeMap<u32, Self> = BTreeMap::new();
        for (key, index, rest) in self.indexed(name)? {
            let Some(rest) = rest else { continue };
            let value = self.left.remove(&key).unwrap_or_default();
            let prefix = format!("{}{name}.{index}.", self.prefix);
            let item = items.entry(index).or_insert_with(|| Self { prefix, left: BTreeMap::new() });
            item.left.insert(rest, value);
        }
        Ok(items.into_values().collect())
    }

    /// Keys of the form `name.<number>` or `name.<number>.<rest>`.
    fn indexed(&self, name: &str) -> Result<Vec<(String, u32, Option<String>)>, ApiError> {
        let start = format!("{name}.");
        let mut found = Vec::new();
        for key in
            self.left.range(start.clone()..).map(|(key, _)| key).take_while(|key| key.starts_with(&start))
        {
            let (number, rest) = match key[start.len()..].split_once('.') {
                Some((number, rest)) => (number, Some(rest.to_owned())),
                None => (&key[start.len()..], None),
            };
            let Ok(index) = number.parse::<u32>() else { continue };
            // «Name.01» beside «Name.1» would be two names of one item.
            if index == 0 || index.to_string() != number {
                let problem = "Expecting list indexes that count from 1.";
                return Err(self.invalid(name, number, problem));
            }
            found.push((key.clone(), index, rest));
        }
        Ok(found)
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.left.first_key_value() {
            None => Ok(()),
            Some((name, _)) => {
                let shown: String = name.chars().take(100).collect();
                let message = format!("The parameter {}{shown} is not recognized", self.prefix);
                Err(Code::UnknownParameter.because(message))
            }
        }
    }

    /// What is left, to compare retries by.
    pub(crate) fn everything(&self) -> BTreeMap<String, String> {
        self.left.clone()
    }

    /// Whether `name` is left, as a value, a list or a structure.
    pub(crate) fn has(&self, name: &str) -> bool {
        let below = format!("{name}.");
        self.left.contains_key(name)
            || self.left.range(below.clone()..).next().is_some_and(|(key, _)| key.starts_with(&below))
    }

    pub(crate) fn missing(&self, name: &str) -> ApiError {
        ApiError::missing(&format!("{}{name}", self.prefix))
    }

    pub(crate) fn invalid(&self, name: &str, value: &str, problem: &str) -> ApiError {
        ApiError::invalid(&format!("{}{name}", self.prefix), value, problem)
    }
}

fn malformed(problem: &str) -> ApiError {
    Code::MalformedQueryString.because(format!("The query string is malformed: {problem}"))
}

fn decode(text: &[u8]) -> Result<String, ApiError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let [high, low, tail @ ..] = rest else { return Err(malformed("a % escape is cut off")) };
                rest = tail;
                match (hex(*high), hex(*low)) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => return Err(malformed("a % is not followed by two hexadecimal digits")),
                }
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| malformed("a name or value is not UTF-8"))
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(form: &str) -> Params {
        Params::parse(form.as_bytes()).unwrap()
    }

    #[test]
    fn escapes_lists_and_structures_are_read_in_order() {
        let mut params = params("A.10=x&A.2=b+c%21&F.1.Name=n&F.1.Value.1=v&E=");
        assert_eq!(params.list("A").unwrap(), ["b c!", "x"]);
        let mut filters = params.structures("F").unwrap();
        assert_eq!(filters[0].text("Name").as_deref(), Some("n"));
        assert_eq!(filters[0].list("Value").unwrap(), ["v"]);
        assert_eq!(params.text("E").as_deref(), Some(""));
        params.finish().unwrap();
    }

    #[test]
    fn what_nobody_takes_is_unknown() {
        let mut params = params("A.1.X=1&A.1=2");
        assert_eq!(params.list("A").unwrap(), ["2"]);
        let error = params.finish().unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (Code::UnknownParameter, "The parameter A.1.X is not recognized")
        );
    }

    #[test]
    fn broken_bytes_are_refused_by_name() {
        for broken in ["A=%2", "A=%zz", "=1", "A=%ff", "A=1&A=2"] {
            let error = Params::parse(broken.as_bytes()).unwrap_err();
            assert_eq!(error.code, Code::MalformedQueryString, "{broken}");
        }
    }

    #[test]
    fn a_list_index_that_is_not_canonical_is_refused() {
        assert_eq!(params("A.01=x").list("A").unwrap_err().code, Code::InvalidParameterValue);
        assert_eq!(params("A.0=x").list("A").unwrap_err().code, Code::InvalidParameterValue);
    }
}
